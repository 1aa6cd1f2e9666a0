package provider

import (
	"context"
	"fmt"

	"runbook/sandbox/toolchain/provider-kubernetes/internal/await"
	"runbook/sandbox/toolchain/provider-kubernetes/internal/kube"
	"runbook/sandbox/toolchain/provider-kubernetes/internal/object"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Update applies changed inputs to the existing object and waits until it is ready again.
func (p *Provider) Update(
	request context.Context, req *pulumirpc.UpdateRequest,
) (*pulumirpc.UpdateResponse, error) {
	ctx, done := p.operation(request)
	defer done()
	urn := resource.URN(req.GetUrn())
	props, err := unmarshal(req.GetNews(), true)
	if err != nil {
		return nil, err
	}
	olds, err := unmarshal(req.GetOlds(), true)
	if err != nil {
		return nil, err
	}
	old := recall(olds)
	inputs := withKind(urn, object.ToUnstructured(props))
	if req.GetPreview() && (object.HasUnknowns(inputs) || !p.cluster.Knows(inputs.GroupVersionKind())) {
		if err := p.cluster.Reachable(); err != nil {
			p.engine.warnOnce(ctx, req.GetUrn(), fmt.Sprintf(
				"the cluster is unreachable, so this preview knows only the program's inputs: %v", err))
		}
		shown, err := marshal(props)
		return &pulumirpc.UpdateResponse{Properties: shown}, err
	}
	if err := p.unreachable(); err != nil {
		return nil, err
	}
	manager := managerFor(urn, old.manager, inputs)
	applied, err := p.applyChanged(p.withWarnings(ctx, req.GetUrn()), req, old, inputs, manager)
	if err != nil {
		if req.GetPreview() && (apierrors.IsForbidden(err) || isDryRunUnsupported(err)) {
			shown, err := marshal(props)
			return &pulumirpc.UpdateResponse{Properties: shown}, err
		}
		return nil, failure(object.Describe(inputs)+" was not updated", err, props)
	}
	var waitErr error
	if !req.GetPreview() {
		applied, waitErr = p.wait(ctx, urn, inputs, req.GetTimeout()).Ready(ctx, applied)
		if old.manager != "" && old.manager != manager && waitErr == nil {
			waitErr = p.cluster.Relinquish(ctx, applied, old.manager)
		}
	}
	state, err := marshal(checkpoint(applied, props, manager, orElse(old.initialAPIVersion, inputs.GetAPIVersion())))
	if err != nil {
		return nil, err
	}
	if notReady, ok := await.IsNotReady(waitErr); ok {
		return nil, partial(object.ID(applied), notReady, state, nil, props)
	}
	if waitErr != nil {
		return nil, failure("waiting for "+object.Describe(inputs), waitErr, props)
	}
	return &pulumirpc.UpdateResponse{Properties: state}, nil
}

// applyChanged sends the new inputs for the object that the state knows.
func (p *Provider) applyChanged(
	ctx context.Context, req *pulumirpc.UpdateRequest, old remembered, inputs *unstructured.Unstructured, manager string,
) (*unstructured.Unstructured, error) {
	client, err := p.cluster.Resource(inputs)
	if err != nil {
		return nil, err
	}
	// Without this look, an object that somebody has deleted would silently be made anew.
	live, err := client.Get(ctx, orElse(old.live.GetName(), inputs.GetName()), metav1.GetOptions{})
	if kube.IsGone(err) {
		return nil, fmt.Errorf("it is in the state but no longer in the cluster; run `pulumi refresh`, then try again")
	}
	if err != nil {
		return nil, err
	}
	patch := object.IsPatch(resource.URN(req.GetUrn()))
	inherited := !patch && kube.ClientSideManagers(live).Len() > 0
	if inherited && !req.GetPreview() {
		if err := p.cluster.TakeOver(ctx, live, manager); err != nil {
			return nil, fmt.Errorf("taking over fields from client-side apply: %w", err)
		}
	}
	if err := kube.LeaveAlone(inputs, live, manager, req.GetIgnoreChanges()); err != nil {
		return nil, err
	}
	return p.cluster.Apply(ctx, inputs, kube.Apply{
		Manager: manager, DryRun: req.GetPreview(),
		// A preview changes nothing, so it cannot take fields over first; the update will, hence no conflict to report.
		Force: object.IsTrue(inputs, object.PatchForce) || inherited && req.GetPreview(),
	})
}

func orElse(text, fallback string) string {
	if text != "" {
		return text
	}
	return fallback
}
