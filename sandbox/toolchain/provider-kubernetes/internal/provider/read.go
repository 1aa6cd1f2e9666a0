package provider

import (
	"context"
	"fmt"

	"runbook/sandbox/toolchain/provider-kubernetes/internal/await"
	"runbook/sandbox/toolchain/provider-kubernetes/internal/kube"
	"runbook/sandbox/toolchain/provider-kubernetes/internal/object"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Read fetches the live object: for a refresh, where the inputs are then what the program would have to say to get it;
// for an import or a get, where there were no inputs and all of the object counts as such.
func (p *Provider) Read(request context.Context, req *pulumirpc.ReadRequest) (*pulumirpc.ReadResponse, error) {
	ctx, done := p.operation(request)
	defer done()
	urn := resource.URN(req.GetUrn())
	if err := supported(urn); err != nil {
		return nil, err
	}
	if err := p.unreachable(); err != nil {
		if p.options.deleteUnreachable {
			p.engine.warn(ctx, req.GetUrn(), err.Error()+"\ndeleteUnreachable is set: dropping it from the state")
			return &pulumirpc.ReadResponse{}, nil
		}
		return nil, fmt.Errorf("%w\nIf the cluster is gone for good, set PULUMI_K8S_DELETE_UNREACHABLE=true to drop its "+
			"resources from the state", err)
	}
	state, err := unmarshal(req.GetProperties(), true)
	if err != nil {
		return nil, err
	}
	oldInputs, err := unmarshal(req.GetInputs(), true)
	if err != nil {
		return nil, err
	}
	namespace, name := object.ParseID(req.GetId())
	if name == "" {
		return nil, fmt.Errorf("%q names no object; use NAME, or NAMESPACE/NAME for a kind that has namespaces", req.GetId())
	}
	old := recall(state)
	imported := len(oldInputs) == 0
	wanted := withKind(urn, object.ToUnstructured(oldInputs))
	if gvk := wanted.GroupVersionKind(); namespace == "" && p.cluster.Namespaced(gvk) {
		namespace = orDefault(p.cluster.Namespace)
	}
	if wanted.GetNamespace() == "" {
		wanted.SetNamespace(namespace)
	}
	client, err := p.cluster.Resource(wanted)
	if kube.IsGone(err) {
		return &pulumirpc.ReadResponse{}, nil
	}
	if err != nil {
		return nil, failure("reading "+object.Describe(wanted), err)
	}
	live, err := client.Get(ctx, name, metav1.GetOptions{})
	if kube.IsGone(err) {
		return &pulumirpc.ReadResponse{}, nil
	}
	if err != nil {
		return nil, failure("reading "+object.Describe(wanted), err)
	}

	var liveInputs resource.PropertyMap
	if imported {
		liveInputs = object.FromUnstructured(object.ImportInputs(live))
	} else {
		liveInputs = object.FromUnstructured(object.LiveInputs(live, object.ToUnstructured(oldInputs).Object))
	}
	object.MarkSecrets(liveInputs, oldInputs)
	manager := managerFor(urn, old.manager, wanted)
	newState, err := marshal(checkpoint(live, liveInputs, manager, orElse(old.initialAPIVersion, wanted.GetAPIVersion())))
	if err != nil {
		return nil, err
	}
	inputs, err := marshal(liveInputs)
	if err != nil {
		return nil, err
	}
	if !imported {
		if notReady, ok := await.IsNotReady(await.Now(ctx, p.cluster, wanted, live)); ok {
			return nil, partial(req.GetId(), notReady, newState, inputs, oldInputs)
		}
	}
	return &pulumirpc.ReadResponse{Id: req.GetId(), Properties: newState, Inputs: inputs}, nil
}
