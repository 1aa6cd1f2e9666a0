// Command pulumi-resource-kubernetes is the official Pulumi provider for Kubernetes; see README.md.
package main

import (
	_ "embed"

	"github.com/pulumi/pulumi-kubernetes/provider/v4/pkg/provider"
)

// The build copies both from the provider's own module.
var (
	//go:embed schema.json
	schema []byte
	//go:embed terraform-mapping.json
	mapping []byte
)

// version is that of the Python package; set by the linker.
var version = "0.0.0-dev"

func main() {
	provider.Serve("kubernetes", version, schema, mapping)
}
