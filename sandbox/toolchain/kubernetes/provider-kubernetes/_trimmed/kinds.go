// Package v2 takes the place of one file of the Kubernetes SDK for Go, yaml/v2/kinds.go, which names every kind and so
// has the compiler read every package of the SDK. Only components that read YAML manifests look kinds up there.
package v2

import (
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// IsListKind reports whether an object of this kind holds a list of objects.
func IsListKind(_, kind string) bool {
	return strings.HasSuffix(kind, "List")
}

// RegisterResource registers an object by its token, without the typed outputs of its kind.
func RegisterResource(ctx *pulumi.Context, apiVersion, kind, name string, properties pulumi.Input,
	options ...pulumi.ResourceOption) (pulumi.CustomResource, error) {
	if group, _, found := strings.Cut(apiVersion, "/"); !found {
		apiVersion = "core/" + group
	}
	var object pulumi.CustomResourceState
	err := ctx.RegisterResource("kubernetes:"+apiVersion+":"+kind, name, properties, &object, options...)
	return &object, err
}
