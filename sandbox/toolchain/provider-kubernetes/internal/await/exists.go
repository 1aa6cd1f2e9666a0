package await

import (
	"context"

	"runbook/sandbox/toolchain/provider-kubernetes/internal/kube"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

var (
	namespaces = corev1.SchemeGroupVersion.WithResource("namespaces")
	crds       = schema.GroupVersionResource{
		Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions",
	}
)

// NamespaceExists waits for a namespace that another resource of the same program may be about to create. It returns
// false if ctx ended first.
func NamespaceExists(ctx context.Context, cluster *kube.Cluster, name string) bool {
	return until(ctx, cluster, byName(namespaces, "", name), func(found *unstructured.Unstructured) bool {
		return found.GetDeletionTimestamp() == nil
	})
}

// KindServed waits for the definition of a custom resource's kind in the same way.
func KindServed(ctx context.Context, cluster *kube.Cluster, kind schema.GroupKind) bool {
	return until(ctx, cluster, query{resource: crds}, func(found *unstructured.Unstructured) bool {
		group, _, _ := unstructured.NestedString(found.Object, "spec", "group")
		name, _, _ := unstructured.NestedString(found.Object, "spec", "names", "kind")
		return group == kind.Group && name == kind.Kind && conditionOf(found, "Established").status == "True"
	})
}

func until(ctx context.Context, cluster *kube.Cluster, q query, holds func(*unstructured.Unstructured) bool) bool {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	around := newBoard(ctx, cluster)
	for {
		found, _ := around.list(q)
		for _, candidate := range found {
			if holds(candidate) {
				return true
			}
		}
		select {
		case <-around.changed:
		case <-ctx.Done():
			return false
		}
	}
}
