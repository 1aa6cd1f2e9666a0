package provider

import (
	"context"
	"slices"

	"runbook/sandbox/toolchain/provider-kubernetes/internal/await"
	"runbook/sandbox/toolchain/provider-kubernetes/internal/kube"
	"runbook/sandbox/toolchain/provider-kubernetes/internal/object"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// replaceUnreadyPath is how the official provider names a replacement that no input caused.
const replaceUnreadyPath = `.metadata.annotations["pulumi.com/replaceUnready"]`

// Diff compares what the program asked for last time with what it asks for now. It goes to the cluster only if there is
// a difference: then a dry run tells whether the API server would accept it on the existing object.
func (p *Provider) Diff(request context.Context, req *pulumirpc.DiffRequest) (*pulumirpc.DiffResponse, error) {
	ctx, done := p.operation(request)
	defer done()
	urn := resource.URN(req.GetUrn())
	state, err := unmarshal(req.GetOlds(), true)
	if err != nil {
		return nil, err
	}
	news, err := unmarshal(req.GetNews(), true)
	if err != nil {
		return nil, err
	}
	old := recall(state)
	if req.GetOldInputs() != nil {
		if old.inputs, err = unmarshal(req.GetOldInputs(), true); err != nil {
			return nil, err
		}
	}
	oldInputs := withKind(urn, object.ToUnstructured(old.inputs))
	newInputs := withKind(urn, object.ToUnstructured(news))
	p.align(oldInputs, newInputs, old.live)

	changes := object.Compare(oldInputs.Object, newInputs.Object)
	changes = withoutIgnored(changes, req.GetIgnoreChanges())
	if len(changes) > 0 {
		p.decideReplacement(ctx, urn, old, newInputs, changes)
	}
	response := p.answer(changes)
	if len(response.Replaces) == 0 && p.isUnreadyJob(ctx, urn, newInputs, old.live) {
		response.Changes = pulumirpc.DiffResponse_DIFF_SOME
		response.Replaces = append(response.Replaces, replaceUnreadyPath)
	}
	response.DeleteBeforeReplace = len(response.Replaces) > 0 && mustDeleteFirst(newInputs, old.live)
	return response, nil
}

// align removes differences that are none: the namespace "default" and no namespace, and a namespace given to a kind
// that lives in none.
func (p *Provider) align(oldInputs, newInputs, live *unstructured.Unstructured) {
	if oldNamespace, newNamespace := oldInputs.GetNamespace(), newInputs.GetNamespace(); oldNamespace != newNamespace {
		if !p.cluster.Namespaced(newInputs.GroupVersionKind()) {
			newInputs.SetNamespace(oldNamespace)
		} else if !object.HasUnknowns(newInputs.Object["metadata"]) {
			oldInputs.SetNamespace(orDefault(oldNamespace))
			newInputs.SetNamespace(orDefault(newNamespace))
		}
	}
	// An import may leave the name out of the inputs, and a program may start to write down a generated one.
	if oldInputs.GetName() == "" && live.GetName() != "" && newInputs.GetName() != "" {
		oldInputs.SetName(live.GetName())
	}
}

func orDefault(namespace string) string {
	if namespace == "" {
		return metav1.NamespaceDefault
	}
	return namespace
}

func withoutIgnored(changes []object.Change, ignored []string) []object.Change {
	var paths []resource.PropertyPath
	for _, text := range ignored {
		if path, err := resource.ParsePropertyPath(text); err == nil {
			paths = append(paths, path)
		}
	}
	return slices.DeleteFunc(changes, func(change object.Change) bool {
		return slices.ContainsFunc(paths, func(path resource.PropertyPath) bool { return path.Contains(change.Path) })
	})
}

// decideReplacement marks the changes that the existing object cannot take.
func (p *Provider) decideReplacement(
	ctx context.Context, urn resource.URN, old remembered, newInputs *unstructured.Unstructured, changes []object.Change,
) {
	forced := []string{"kind", "metadata.name", "metadata.namespace"}
	if !object.IsPatch(urn) {
		forced = object.ForceNew(newInputs, p.options.mutable)
	}
	if mark(changes, forced) || object.KeepsData(newInputs) || object.HasUnknowns(newInputs) {
		return
	}
	if !p.cluster.Knows(newInputs.GroupVersionKind()) {
		return
	}
	_, err := p.cluster.Apply(ctx, newInputs, kube.Apply{
		Manager: managerFor(urn, old.manager, newInputs), Force: true, DryRun: true,
	})
	// Any other error is the update's to report.
	if immutable := kube.ImmutableFields(err); len(immutable) > 0 && !mark(changes, immutable) {
		for i := range changes {
			changes[i].Replaces = true
		}
	}
}

func mark(changes []object.Change, fields []string) bool {
	marked := false
	for i := range changes {
		if slices.ContainsFunc(fields, changes[i].Touches) {
			changes[i].Replaces, marked = true, true
		}
	}
	return marked
}

func (p *Provider) answer(changes []object.Change) *pulumirpc.DiffResponse {
	response := &pulumirpc.DiffResponse{
		Changes: pulumirpc.DiffResponse_DIFF_NONE, HasDetailedDiff: true,
		DetailedDiff: map[string]*pulumirpc.PropertyDiff{},
	}
	kinds := map[object.ChangeKind][2]pulumirpc.PropertyDiff_Kind{
		object.Added:   {pulumirpc.PropertyDiff_ADD, pulumirpc.PropertyDiff_ADD_REPLACE},
		object.Deleted: {pulumirpc.PropertyDiff_DELETE, pulumirpc.PropertyDiff_DELETE_REPLACE},
		object.Updated: {pulumirpc.PropertyDiff_UPDATE, pulumirpc.PropertyDiff_UPDATE_REPLACE},
	}
	for _, change := range changes {
		response.Changes = pulumirpc.DiffResponse_DIFF_SOME
		kind := kinds[change.Kind][0]
		if change.Replaces {
			kind = kinds[change.Kind][1]
			response.Replaces = append(response.Replaces, change.Path.String())
		}
		response.DetailedDiff[change.Path.String()] = &pulumirpc.PropertyDiff{Kind: kind, InputDiff: true}
	}
	return response
}

// isUnreadyJob looks whether a Job that asks for it has to be replaced because it is not complete.
func (p *Provider) isUnreadyJob(
	ctx context.Context, urn resource.URN, newInputs, old *unstructured.Unstructured,
) bool {
	if !object.IsTrue(newInputs, object.ReplaceUnready) {
		return false
	}
	if newInputs.GetKind() != "Job" {
		p.engine.warn(ctx, string(urn), "the annotation pulumi.com/replaceUnready only works for a Job")
		return false
	}
	if err := p.cluster.Reachable(); err != nil {
		p.engine.warn(ctx, string(urn), "the cluster is unreachable, so it is not known whether the Job is complete")
		return false
	}
	client, err := p.cluster.Resource(old)
	if err != nil {
		return false
	}
	live, err := client.Get(ctx, old.GetName(), metav1.GetOptions{})
	if err != nil {
		return false // an object that is gone shows in a refresh, not here
	}
	return await.Now(ctx, p.cluster, newInputs, live) != nil
}

// mustDeleteFirst is true if the new object would have the very name of the old one, because the program says so.
func mustDeleteFirst(newInputs, old *unstructured.Unstructured) bool {
	if object.HasUnknowns(newInputs.Object["metadata"]) {
		metadata, _ := newInputs.Object["metadata"].(map[string]any)
		if name, ok := metadata["name"].(string); !ok || name != old.GetName() {
			return false
		}
	}
	return !object.IsTrue(newInputs, object.Autonamed) && newInputs.GetName() == old.GetName() &&
		orDefault(newInputs.GetNamespace()) == orDefault(old.GetNamespace())
}
