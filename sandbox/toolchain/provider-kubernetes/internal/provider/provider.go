// Package provider answers the engine's questions about Kubernetes objects.
package provider

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"runbook/sandbox/toolchain/provider-kubernetes/internal/kube"
	"runbook/sandbox/toolchain/provider-kubernetes/internal/object"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
)

// Provider implements the engine's resource provider protocol for one cluster.
type Provider struct {
	pulumirpc.UnimplementedResourceProviderServer

	version string
	engine  engine
	stop    context.Context // ends when the engine cancels, or dies
	cancel  context.CancelFunc

	options options
	cluster *kube.Cluster

	mu      sync.Mutex
	created map[types.UID]bool // objects that this process created or adopted
}

// New makes a provider that stops waiting when ctx ends.
func New(ctx context.Context, version string) *Provider {
	stop, cancel := context.WithCancel(ctx)
	return &Provider{version: version, stop: stop, cancel: cancel, created: map[types.UID]bool{}}
}

// Connect gives the provider its engine; lost is called when the engine is gone.
func (p *Provider) Connect(address string, lost func()) error {
	return p.engine.connect(p.stop, address, lost)
}

// Attach is Connect by another way: the engine attaches to a provider that was started by hand, under a debugger.
func (p *Provider) Attach(_ context.Context, req *pulumirpc.PluginAttach) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, p.Connect(req.GetAddress(), p.cancel)
}

// GetPluginInfo reports the version of the official provider that this one stands in for.
func (p *Provider) GetPluginInfo(context.Context, *emptypb.Empty) (*pulumirpc.PluginInfo, error) {
	return &pulumirpc.PluginInfo{Version: p.version}, nil
}

// GetSchema names the package and no more: the SDKs carry their own copy of the schema, and only code generation
// would read ours.
func (p *Provider) GetSchema(context.Context, *pulumirpc.GetSchemaRequest) (*pulumirpc.GetSchemaResponse, error) {
	return &pulumirpc.GetSchemaResponse{
		Schema: fmt.Sprintf(`{"name":"kubernetes","version":%q,"resources":{}}`, p.version),
	}, nil
}

// GetMapping has nothing to tell converters.
func (p *Provider) GetMapping(
	context.Context, *pulumirpc.GetMappingRequest,
) (*pulumirpc.GetMappingResponse, error) {
	return &pulumirpc.GetMappingResponse{}, nil
}

// Cancel ends every wait; the operations then report the objects as they are.
func (p *Provider) Cancel(context.Context, *emptypb.Empty) (*emptypb.Empty, error) {
	p.cancel()
	return &emptypb.Empty{}, nil
}

// Invoke would run functions such as kubernetes:yaml:decode.
func (p *Provider) Invoke(_ context.Context, req *pulumirpc.InvokeRequest) (*pulumirpc.InvokeResponse, error) {
	return nil, outOfScope(req.GetTok())
}

// Call would run methods of components.
func (p *Provider) Call(_ context.Context, req *pulumirpc.CallRequest) (*pulumirpc.CallResponse, error) {
	return nil, outOfScope(req.GetTok())
}

// Construct would build components such as kubernetes:yaml/v2:ConfigGroup.
func (p *Provider) Construct(
	_ context.Context, req *pulumirpc.ConstructRequest,
) (*pulumirpc.ConstructResponse, error) {
	return nil, outOfScope(req.GetType())
}

func outOfScope(what string) error {
	return status.Errorf(codes.Unimplemented,
		"%s is not supported by the sandbox's stand-in for the Kubernetes provider, which manages single objects: "+
			"write the objects as resources, or use the official provider", what)
}

// operation ties the life of a request to that of the provider.
func (p *Provider) operation(request context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(request)
	unlink := context.AfterFunc(p.stop, cancel)
	return ctx, func() { unlink(); cancel() }
}

// withWarnings delivers what the API server remarks about a request to the resource that made it.
func (p *Provider) withWarnings(ctx context.Context, urn string) context.Context {
	return kube.WithWarnings(ctx, func(text string) {
		switch {
		case p.options.suppressDeprecationWarnings && strings.Contains(text, "deprecated"):
		case strings.Contains(text, "SessionAffinity is ignored"): // the server's own default, not the program's doing
		default:
			p.engine.warn(ctx, urn, text)
		}
	})
}

// supported refuses what this provider does not do, before anything is attempted.
func supported(urn resource.URN) error {
	gvk, ok := object.KindOf(urn)
	module := string(urn.Type().Module().Name())
	for _, component := range []string{"helm.sh", "kustomize", "yaml"} {
		ok = ok && !strings.HasPrefix(module, component)
	}
	if !ok {
		return outOfScope(string(urn.Type()))
	}
	if strings.HasSuffix(gvk.Kind, "List") && scheme.Scheme.Recognizes(gvk) {
		return fmt.Errorf("%s cannot be created: a list is not an object; create its items instead", urn.Type())
	}
	return nil
}
