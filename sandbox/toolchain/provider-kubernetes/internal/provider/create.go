package provider

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"runbook/sandbox/toolchain/provider-kubernetes/internal/await"
	"runbook/sandbox/toolchain/provider-kubernetes/internal/kube"
	"runbook/sandbox/toolchain/provider-kubernetes/internal/object"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"google.golang.org/protobuf/types/known/structpb"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

const (
	// Resources of one program are created at once; one may be ahead of the namespace or the definition it needs.
	namespacePatience  = 30 * time.Second
	definitionPatience = 60 * time.Second
)

// Create applies a new object and waits until it is ready. An object of that name that exists already is adopted, which
// is what makes a run that was killed half way repeatable.
func (p *Provider) Create(
	request context.Context, req *pulumirpc.CreateRequest,
) (*pulumirpc.CreateResponse, error) {
	ctx, done := p.operation(request)
	defer done()
	urn := resource.URN(req.GetUrn())
	if err := supported(urn); err != nil {
		return nil, err
	}
	props, err := unmarshal(req.GetProperties(), true)
	if err != nil {
		return nil, err
	}
	inputs := withKind(urn, object.ToUnstructured(props))
	manager := managerFor(urn, "", inputs)
	if req.GetPreview() {
		properties, err := p.previewCreate(ctx, urn, inputs, props, manager)
		return &pulumirpc.CreateResponse{Properties: properties}, err
	}
	if err := p.unreachable(); err != nil {
		return nil, err
	}
	applied, err := p.applyNew(p.withWarnings(ctx, req.GetUrn()), urn, inputs, manager)
	if err != nil {
		return nil, failure(object.Describe(inputs)+" was not created", explainRefusal(err), props)
	}
	p.remember(applied)
	live, waitErr := p.wait(ctx, urn, inputs, req.GetTimeout()).Ready(ctx, applied)
	if inputs.GetKind() == "CustomResourceDefinition" {
		p.cluster.ForgetKinds()
	}
	state, err := marshal(checkpoint(live, props, manager, inputs.GetAPIVersion()))
	if err != nil {
		return nil, err
	}
	if notReady, ok := await.IsNotReady(waitErr); ok {
		return nil, partial(object.ID(live), notReady, state, nil, props)
	}
	if waitErr != nil {
		return nil, failure("waiting for "+object.Describe(inputs), waitErr, props)
	}
	return &pulumirpc.CreateResponse{Id: object.ID(live), Properties: state}, nil
}

func (p *Provider) wait(
	ctx context.Context, urn resource.URN, inputs *unstructured.Unstructured, customTimeout float64,
) await.Wait {
	return await.Wait{
		Cluster: p.cluster, Inputs: inputs, Timeout: object.Timeout(customTimeout, inputs),
		Progress: func(message string) { p.engine.status(ctx, string(urn), message) },
	}
}

func (p *Provider) remember(applied *unstructured.Unstructured) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.created[applied.GetUID()] = true
}

// applyNew applies an object, giving the namespace or the definition that it needs a while to appear.
func (p *Provider) applyNew(
	ctx context.Context, urn resource.URN, inputs *unstructured.Unstructured, manager string,
) (*unstructured.Unstructured, error) {
	how := kube.Apply{Manager: manager, Force: object.IsTrue(inputs, object.PatchForce)}
	applied, err := p.cluster.Apply(ctx, inputs, how)
	if namespace, missing := kube.MissingNamespace(err); missing {
		p.engine.status(ctx, string(urn), "waiting for Namespace "+namespace)
		patience, cancel := context.WithTimeout(ctx, namespacePatience)
		defer cancel()
		if !await.NamespaceExists(patience, p.cluster, namespace) {
			return nil, fmt.Errorf("Namespace %s does not exist; create it in the program and let this resource depend "+
				"on it", namespace)
		}
		return p.cluster.Apply(ctx, inputs, how)
	}
	if !meta.IsNoMatchError(err) {
		return applied, err
	}
	kind := inputs.GroupVersionKind()
	p.engine.status(ctx, string(urn), "waiting for the definition of "+kind.GroupKind().String())
	patience, cancel := context.WithTimeout(ctx, definitionPatience)
	defer cancel()
	if !await.KindServed(patience, p.cluster, kind.GroupKind()) {
		return nil, fmt.Errorf("the cluster does not know the kind %s in %s; create its CustomResourceDefinition first",
			kind.Kind, kind.GroupVersion())
	}
	return p.applyDefined(patience, inputs, how)
}

// applyDefined applies an object of a kind that has just been established. Between that moment and the first request
// that is served lies a little time, about which the API server tells nobody: this is the one thing to try again for.
func (p *Provider) applyDefined(
	ctx context.Context, inputs *unstructured.Unstructured, how kube.Apply,
) (*unstructured.Unstructured, error) {
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		p.cluster.ForgetKinds()
		applied, err := p.cluster.Apply(ctx, inputs, how)
		if !kube.IsGone(err) {
			return applied, err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, err
		}
	}
}

// explainRefusal adds what to do about refusals whose own words do not say it.
func explainRefusal(err error) error {
	if len(kube.ImmutableFields(err)) > 0 {
		return fmt.Errorf("an object of that name exists already and cannot be changed into this one: %w\n"+
			"Delete it, or import it into the stack, or choose another name", err)
	}
	return err
}

// previewCreate shows what the API server would make of the inputs, where it can be asked.
func (p *Provider) previewCreate(
	ctx context.Context, urn resource.URN, inputs *unstructured.Unstructured, props resource.PropertyMap, manager string,
) (*structpb.Struct, error) {
	asInputs := func() (*structpb.Struct, error) {
		shown := props.Copy()
		serverDecides(shown, inputs)
		return marshal(shown)
	}
	if err := p.cluster.Reachable(); err != nil {
		p.engine.warnOnce(ctx, string(urn), fmt.Sprintf(
			"the cluster is unreachable, so this preview knows only the program's inputs: %v", err))
		return asInputs()
	}
	if object.HasUnknowns(inputs) || object.IsPatch(urn) || !p.cluster.Knows(inputs.GroupVersionKind()) {
		return asInputs()
	}
	live, err := p.cluster.Apply(ctx, inputs, kube.Apply{
		Manager: manager, Force: object.IsTrue(inputs, object.PatchForce), DryRun: true,
	})
	if err != nil {
		if !predictsNothing(err) {
			return nil, failure(object.Describe(inputs)+" would not be created", err, props)
		}
		return asInputs()
	}
	unstructured.RemoveNestedField(live.Object, "status")
	shown := checkpoint(live, props, manager, inputs.GetAPIVersion())
	serverDecides(shown, inputs)
	return marshal(shown)
}

// predictsNothing tells the refusals of a dry run that say nothing about the real run: the namespace comes with the same
// update, permission for dry runs is missing, or the object that is in the way will have been replaced by then.
func predictsNothing(err error) bool {
	var conflict *kube.ConflictError
	if errors.As(err, &conflict) {
		return !slices.ContainsFunc(conflict.Managers, func(manager string) bool {
			return !strings.HasPrefix(manager, "pulumi-kubernetes")
		})
	}
	return kube.IsGone(err) || apierrors.IsForbidden(err) || apierrors.IsAlreadyExists(err) ||
		len(kube.ImmutableFields(err)) > 0 || isDryRunUnsupported(err)
}

func isDryRunUnsupported(err error) bool {
	return apierrors.IsBadRequest(err) && strings.Contains(err.Error(), "does not support dry run")
}

// serverDecides marks as unknown what the API server draws anew for the real object: the addresses of a Service.
func serverDecides(shown resource.PropertyMap, inputs *unstructured.Unstructured) {
	spec := shown["spec"]
	if inputs.GetKind() != "Service" || inputs.GetAPIVersion() != "v1" || !spec.IsObject() {
		return
	}
	given, _ := inputs.Object["spec"].(map[string]any)
	if kind, _ := given["type"].(string); kind == "ExternalName" {
		return
	}
	decided := spec.ObjectValue().Copy()
	if _, ok := given["clusterIP"]; !ok {
		decided["clusterIP"] = resource.MakeComputed(resource.NewStringProperty(""))
		decided["clusterIPs"] = resource.MakeComputed(resource.NewStringProperty(""))
	}
	shown["spec"] = resource.NewObjectProperty(decided)
}
