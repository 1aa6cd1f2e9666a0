package kube

import (
	"slices"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func invalid(errors ...*field.Error) error {
	return apierrors.NewInvalid(schema.GroupKind{Kind: "Thing"}, "name", errors)
}

func TestImmutableFields(t *testing.T) {
	spec := field.NewPath("spec")
	for name, test := range map[string]struct {
		err  error
		want []string
	}{
		"immutable": {invalid(field.Invalid(spec.Child("selector"), "x", "field is immutable")), []string{"spec.selector"}},
		"forbidden update": {
			invalid(field.Forbidden(spec, "updates to statefulset spec for fields other than 'replicas' are forbidden")),
			[]string{"spec"},
		},
		"just wrong":     {invalid(field.Invalid(spec.Child("replicas"), -1, "must be positive")), nil},
		"may not shrink": {invalid(field.Forbidden(spec.Child("resources"), "field can not be less than previous value")), nil},
		"wrong as well": {
			invalid(field.Invalid(spec.Child("selector"), "x", "field is immutable"), field.Required(spec.Child("a"), "")), nil,
		},
		"no error": {nil, nil},
	} {
		if got := ImmutableFields(test.err); !slices.Equal(got, test.want) {
			t.Errorf("%s: got %v, want %v", name, got, test.want)
		}
	}
}

func TestConflictNamesFieldsAndOwners(t *testing.T) {
	err := explainConflict(apierrors.NewApplyConflict([]metav1.StatusCause{{
		Type: metav1.CauseTypeFieldManagerConflict, Field: ".spec.replicas",
		Message: `conflict with "hpa" with subresource "scale" using apps/v1`,
	}}, "conflict"))
	if err == nil || !strings.Contains(err.Error(), "spec.replicas (hpa)") || !strings.Contains(err.Error(), "patchForce") {
		t.Errorf("got %v", err)
	}
}

const kubeconfig = `{"apiVersion":"v1","kind":"Config","current-context":"one",
	"clusters":[{"name":"a","cluster":{"server":"https://a"}},{"name":"b","cluster":{"server":"https://b"}}],
	"contexts":[{"name":"one","context":{"cluster":"a","user":"u"}},{"name":"two","context":{"cluster":"b","user":"u"}}],
	"users":[{"name":"u","user":{"token":"t"}}]}`

func TestActiveCluster(t *testing.T) {
	server := func(settings Settings) string {
		settings.Kubeconfig = kubeconfig
		cluster, err := ActiveCluster(settings)
		if err != nil || cluster == nil {
			t.Fatalf("%+v: %v %v", settings, cluster, err)
		}
		return cluster.Server
	}
	if got := server(Settings{}); got != "https://a" {
		t.Error(got)
	}
	if got := server(Settings{Context: "two"}); got != "https://b" {
		t.Error(got)
	}
	if got := server(Settings{Cluster: "b"}); got != "https://b" {
		t.Error(got)
	}
}

func TestMissingKubeconfigIsExplained(t *testing.T) {
	if _, err := ParseKubeconfig("/no/such/file"); err == nil || !strings.Contains(err.Error(), "neither") {
		t.Errorf("got %v", err)
	}
}

func TestLeaveAlone(t *testing.T) {
	live := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"replicas": int64(7), "paused": true}}}
	owner := func(manager, fields string) metav1.ManagedFieldsEntry {
		return metav1.ManagedFieldsEntry{Manager: manager, FieldsV1: &metav1.FieldsV1{Raw: []byte(fields)}}
	}
	live.SetManagedFields([]metav1.ManagedFieldsEntry{
		owner("us", `{"f:spec":{"f:paused":{}}}`), owner("hpa", `{"f:spec":{"f:replicas":{}}}`),
	})
	inputs := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"replicas": int64(2), "paused": false}}}
	if err := LeaveAlone(inputs, live, "us", []string{"spec.replicas", "spec.paused"}); err != nil {
		t.Fatal(err)
	}
	spec := inputs.Object["spec"].(map[string]any)
	if _, sent := spec["replicas"]; sent || spec["paused"] != true {
		t.Errorf("the other's field must not be sent, ours must be sent as it is live: %v", spec)
	}
}

func TestBuiltinScope(t *testing.T) {
	for gvk, want := range map[schema.GroupVersionKind][2]bool{
		{Version: "v1", Kind: "Namespace"}:                                       {false, true},
		{Version: "v1", Kind: "ConfigMap"}:                                       {true, true},
		{Group: "rbac.authorization.k8s.io", Version: "v1", Kind: "ClusterRole"}: {false, true},
		{Group: "example.com", Version: "v1", Kind: "Thing"}:                     {true, false},
		{Group: "networking.k8s.io", Version: "v1", Kind: "IngressClass"}:        {false, true},
		{Group: "networking.k8s.io", Version: "v1", Kind: "NetworkPolicy"}:       {true, true},
	} {
		if namespaced, known := builtinScope(gvk); namespaced != want[0] || known != want[1] {
			t.Errorf("%v: %v %v", gvk, namespaced, known)
		}
	}
}
