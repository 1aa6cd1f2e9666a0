// pulumi-resource-kubernetes is the sandbox's stand-in for the official Kubernetes provider; see README.md.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"runbook/sandbox/toolchain/provider-kubernetes/internal/provider"

	"github.com/pulumi/pulumi/sdk/v3/go/common/util/rpcutil"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"google.golang.org/grpc"
	"k8s.io/klog/v2"
)

// version is that of the official provider; set by the linker.
var version = "0.0.0-dev"

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "pulumi-resource-kubernetes:", err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	if len(arguments) == 1 && arguments[0] == "--version" {
		fmt.Println(version)
		return nil
	}
	// The client library complains to standard error about every watch that the server ends; that is its normal life.
	klog.SetOutput(io.Discard)
	klog.LogToStderr(false)

	// An interrupt reaches the whole process group. The engine turns it into a Cancel of its own; dying at once would
	// lose the state of objects that have just been made.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stop := make(chan bool)
	go func() {
		<-signals
		cancel()
		close(stop) // what is under way ends early because of the cancel, and is answered before we go
		<-signals
		os.Exit(1)
	}()

	server := provider.New(ctx, version)
	handle, err := rpcutil.ServeWithOptions(rpcutil.ServeOptions{
		Init: func(grpcServer *grpc.Server) error {
			pulumirpc.RegisterResourceProviderServer(grpcServer, server)
			return nil
		},
		Cancel: stop,
	})
	if err != nil {
		return err
	}
	if address := engineAddress(arguments); address != "" {
		// Without an engine nobody wants the result any more: a killed run must not leave a waiting process behind.
		if err := server.Connect(address, func() { os.Exit(1) }); err != nil {
			return fmt.Errorf("connecting to the engine at %s: %w", address, err)
		}
	}
	fmt.Println(handle.Port)
	return <-handle.Done
}

// engineAddress is the last argument that is not a flag; the engine passes logging flags before it.
func engineAddress(arguments []string) string {
	for i := len(arguments) - 1; i >= 0; i-- {
		if !strings.HasPrefix(arguments[i], "-") {
			return arguments[i]
		}
	}
	return ""
}
