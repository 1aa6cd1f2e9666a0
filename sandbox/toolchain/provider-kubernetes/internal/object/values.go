// Package object translates between what the engine sends (property maps with secrets and unknowns) and what
// Kubernetes understands (plain JSON objects), and compares such objects. It talks to nobody.
package object

import (
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// The SDKs cannot spell a dash in a property name, so a handful of CustomResourceDefinition fields travel with underscores.
var dashed = map[string]string{
	"x_kubernetes_embedded_resource":       "x-kubernetes-embedded-resource",
	"x_kubernetes_int_or_string":           "x-kubernetes-int-or-string",
	"x_kubernetes_list_map_keys":           "x-kubernetes-list-map-keys",
	"x_kubernetes_list_type":               "x-kubernetes-list-type",
	"x_kubernetes_map_type":                "x-kubernetes-map-type",
	"x_kubernetes_preserve_unknown_fields": "x-kubernetes-preserve-unknown-fields",
	"x_kubernetes_validations":             "x-kubernetes-validations",
}

var underscored = func() map[string]resource.PropertyKey {
	reverse := make(map[string]resource.PropertyKey, len(dashed))
	for underscore, dash := range dashed {
		reverse[dash] = resource.PropertyKey(underscore)
	}
	return reverse
}()

// ToUnstructured drops the secret markers. Unknown values stay in place as resource.Computed: ask HasUnknowns before
// sending the result anywhere (and before deep-copying it, which JSON copies refuse to do with foreign types).
func ToUnstructured(props resource.PropertyMap) *unstructured.Unstructured {
	renameKey := func(key string) (string, bool) {
		dash, ok := dashed[key]
		return dash, ok
	}
	var plain func(resource.PropertyValue) (any, bool)
	plain = func(v resource.PropertyValue) (any, bool) {
		if v.IsSecret() {
			return v.SecretValue().Element.MapRepl(renameKey, plain), true
		}
		return nil, false
	}
	return &unstructured.Unstructured{Object: props.MapRepl(renameKey, plain)}
}

// FromUnstructured is the way back; secrets have to be marked again by MarkSecrets.
func FromUnstructured(obj map[string]any) resource.PropertyMap {
	renameKey := func(key string) (resource.PropertyKey, bool) {
		underscore, ok := underscored[key]
		return underscore, ok
	}
	return resource.NewPropertyMapFromMapRepl(obj, renameKey, nil)
}

// HasUnknowns reports whether any value is only known once something else has been created.
func HasUnknowns(v any) bool {
	switch v := v.(type) {
	case resource.Computed, resource.Output:
		return true
	case *unstructured.Unstructured:
		return HasUnknowns(v.Object)
	case map[string]any:
		for _, element := range v {
			if HasUnknowns(element) {
				return true
			}
		}
	case []any:
		for _, element := range v {
			if HasUnknowns(element) {
				return true
			}
		}
	}
	return false
}

// KindOf reads the group, version and kind of a resource type such as kubernetes:apps/v1:Deployment.
func KindOf(urn resource.URN) (schema.GroupVersionKind, bool) {
	parts := strings.Split(string(urn.Type()), ":")
	if len(parts) != 3 || parts[0] != "kubernetes" {
		return schema.GroupVersionKind{}, false
	}
	group, version, found := strings.Cut(parts[1], "/")
	if !found {
		group, version = "", parts[1]
	}
	if group == "core" {
		group = ""
	}
	kind := parts[2]
	if IsPatch(urn) {
		kind = strings.TrimSuffix(kind, "Patch")
	}
	return schema.GroupVersionKind{Group: group, Version: version, Kind: kind}, true
}

// IsPatch tells a resource that edits somebody else's object (DeploymentPatch) from one that owns its object.
func IsPatch(urn resource.URN) bool {
	name := string(urn.Type().Name())
	return strings.HasSuffix(name, "Patch") && name != "Patch"
}

// ID is how the engine knows an object: namespace/name, or name where there is no namespace.
func ID(obj *unstructured.Unstructured) string {
	if obj.GetNamespace() == "" {
		return obj.GetName()
	}
	return obj.GetNamespace() + "/" + obj.GetName()
}

// ParseID is the inverse of ID.
func ParseID(id string) (namespace, name string) {
	if namespace, name, found := strings.Cut(id, "/"); found {
		return namespace, name
	}
	return "", id
}

// Describe names an object in messages: Deployment shop/backend.
func Describe(obj *unstructured.Unstructured) string {
	return obj.GetKind() + " " + ID(obj)
}
