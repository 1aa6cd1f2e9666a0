// Command pulumi-resource-command is a stand-in for the official `command` provider: local
// commands as resources, and a function that runs one. README.md lists how it differs.
package main

import (
	"context"
	"fmt"
	"os"

	p "github.com/pulumi/pulumi-go-provider"
	"github.com/pulumi/pulumi-go-provider/infer"
)

// version is set by the linker to the version of the Python package it serves.
var version = "0.0.0-dev"

func main() {
	// The engine asks for nothing but a port; `--version` is for people and tests.
	if len(os.Args) == 2 && os.Args[1] == "--version" {
		fmt.Println(version)
		return
	}
	provider, err := newProvider()
	if err == nil {
		err = provider.Run(context.Background(), "command", version)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "pulumi-resource-command: %v\n", err)
		os.Exit(1)
	}
}

func newProvider() (p.Provider, error) {
	provider, err := infer.NewProviderBuilder().
		WithDescription("Run local commands as part of a Pulumi program.").
		WithLicense("Apache-2.0").
		WithResources(infer.Resource(&Command{})).
		WithFunctions(infer.Function(&Run{})).
		Build()
	return replaceOnTriggers(refuseRemote(knowSecrets(provider))), err
}
