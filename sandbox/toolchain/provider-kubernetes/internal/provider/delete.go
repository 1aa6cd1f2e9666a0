package provider

import (
	"context"
	"fmt"
	"strings"

	"runbook/sandbox/toolchain/provider-kubernetes/internal/await"
	"runbook/sandbox/toolchain/provider-kubernetes/internal/kube"
	"runbook/sandbox/toolchain/provider-kubernetes/internal/object"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"google.golang.org/protobuf/types/known/emptypb"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Delete removes an object and what hangs on it, and waits until it is gone. What is gone already is a success.
func (p *Provider) Delete(request context.Context, req *pulumirpc.DeleteRequest) (*emptypb.Empty, error) {
	ctx, done := p.operation(request)
	defer done()
	urn := resource.URN(req.GetUrn())
	state, err := unmarshal(req.GetProperties(), true)
	if err != nil {
		return nil, err
	}
	old := recall(state)
	doomed := withKind(urn, old.live)
	if doomed.GetName() == "" {
		namespace, name := object.ParseID(req.GetId())
		doomed.SetName(name)
		doomed.SetNamespace(namespace)
	}
	if err := p.unreachable(); err != nil {
		if p.options.deleteUnreachable {
			p.engine.warn(ctx, req.GetUrn(), err.Error()+"\ndeleteUnreachable is set: dropping it from the state")
			return &emptypb.Empty{}, nil
		}
		return nil, fmt.Errorf("%w\nIf the cluster is gone for good, set PULUMI_K8S_DELETE_UNREACHABLE=true to drop its "+
			"resources from the state", err)
	}
	err = p.remove(ctx, urn, req.GetTimeout(), old, doomed)
	if err != nil && !kube.IsGone(err) {
		return nil, failure("deleting "+object.Describe(doomed), err, state)
	}
	return &emptypb.Empty{}, nil
}

func (p *Provider) remove(
	ctx context.Context, urn resource.URN, customTimeout float64, old remembered, doomed *unstructured.Unstructured,
) error {
	if object.IsPatch(urn) {
		return p.cluster.Relinquish(ctx, doomed, old.manager)
	}
	client, err := p.cluster.Resource(doomed)
	if err != nil {
		return err
	}
	live, err := client.Get(ctx, doomed.GetName(), metav1.GetOptions{})
	if err != nil {
		return err
	}
	if p.justCreated(live) {
		// A replacement that was not told to delete first has "created" its object onto the old one of the same name;
		// deleting the old one now would leave the stack without either.
		p.engine.warn(ctx, string(urn), object.Describe(live)+" was replaced by an object of the same name, so there is "+
			"nothing left to delete; set delete_before_replace to have it made anew")
		return nil
	}
	inputs := withKind(urn, object.ToUnstructured(old.inputs))
	uid, policy := live.GetUID(), propagation(inputs)
	err = client.Delete(ctx, doomed.GetName(), metav1.DeleteOptions{
		PropagationPolicy: &policy, Preconditions: &metav1.Preconditions{UID: &uid},
	})
	if err != nil || await.SkipsDeletion(inputs) {
		return err
	}
	return p.wait(ctx, urn, inputs, customTimeout).Deleted(ctx, live)
}

func (p *Provider) justCreated(live *unstructured.Unstructured) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.created[live.GetUID()]
}

func propagation(inputs *unstructured.Unstructured) metav1.DeletionPropagation {
	switch strings.ToLower(object.Annotation(inputs, object.DeletionPropagation)) {
	case "orphan":
		return metav1.DeletePropagationOrphan
	case "background":
		return metav1.DeletePropagationBackground
	}
	return metav1.DeletePropagationForeground
}
