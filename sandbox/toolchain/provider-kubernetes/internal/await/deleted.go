package await

import (
	"context"
	"fmt"
	"strings"

	"runbook/sandbox/toolchain/provider-kubernetes/internal/kube"
	"runbook/sandbox/toolchain/provider-kubernetes/internal/object"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Deleted waits until an object whose deletion was asked for is gone, or has made way for another one of that name.
func (w Wait) Deleted(parent context.Context, doomed *unstructured.Unstructured) error {
	resource, err := w.Cluster.Resource(doomed)
	if err != nil {
		return err
	}
	gvr, err := w.Cluster.GVR(doomed)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(parent, w.Timeout)
	defer cancel()
	around := newBoard(ctx, w.Cluster)
	self := byName(gvr, doomed.GetNamespace(), doomed.GetName())
	last, told := doomed, ""
	for {
		around.list(self) // starts the watch, whose every event is a reason to look at the truth
		live, err := resource.Get(ctx, doomed.GetName(), metav1.GetOptions{})
		if kube.IsGone(err) || err == nil && live.GetUID() != doomed.GetUID() {
			w.doneWith(told)
			return nil
		}
		if err == nil {
			last = live
			if remaining := whyStillThere(live); remaining != told {
				told = remaining
				w.Progress(told)
			}
		}
		select {
		case <-around.changed:
		case <-ctx.Done():
			reason := fmt.Sprintf("was not gone within %s: %s", w.Timeout, whyStillThere(last))
			if parent.Err() != nil {
				reason = "is being deleted, but the operation was cancelled before it was gone"
			}
			return &NotReadyError{Object: last, Reason: reason}
		}
	}
}

// whyStillThere reads what holds an object back: finalizers, and for a namespace what is left in it.
func whyStillThere(live *unstructured.Unstructured) string {
	var reasons []string
	conditions, _, _ := unstructured.NestedSlice(live.Object, "status", "conditions")
	if live.GetKind() == "Namespace" {
		for _, entry := range conditions {
			fields, _ := entry.(map[string]any)
			if message, _ := fields["message"].(string); fields["status"] == "True" && message != "" {
				reasons = append(reasons, message)
			}
		}
	}
	for _, finalizer := range live.GetFinalizers() {
		if finalizer == metav1.FinalizerDeleteDependents {
			reasons = append(reasons, "what belongs to it to be deleted")
		} else {
			reasons = append(reasons, "finalizer "+finalizer)
		}
	}
	if len(reasons) == 0 {
		return "waiting for deletion"
	}
	return "waiting for " + strings.Join(reasons, "; ")
}

// SkipsDeletion lists the kinds for which pulumi.com/skipAwait covers deletion as well.
func SkipsDeletion(inputs *unstructured.Unstructured) bool {
	if !object.IsTrue(inputs, object.SkipAwait) {
		return false
	}
	switch inputs.GroupVersionKind().GroupKind().String() {
	case "Namespace", "Pod", "ReplicationController", "DaemonSet.apps", "Deployment.apps", "StatefulSet.apps", "Job.batch":
		return true
	}
	return false
}
