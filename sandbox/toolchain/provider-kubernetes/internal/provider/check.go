package provider

import (
	"context"
	"fmt"

	"runbook/sandbox/toolchain/provider-kubernetes/internal/object"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
)

// Check completes the inputs of a resource: a name where the program gave none, the default namespace, the secret marks.
func (p *Provider) Check(_ context.Context, req *pulumirpc.CheckRequest) (*pulumirpc.CheckResponse, error) {
	urn := resource.URN(req.GetUrn())
	if err := supported(urn); err != nil {
		return nil, err
	}
	olds, err := unmarshal(req.GetOlds(), true)
	if err != nil {
		return nil, err
	}
	news, err := unmarshal(req.GetNews(), true)
	if err != nil {
		return nil, err
	}
	gvk, _ := object.KindOf(urn)
	if !news.HasValue("apiVersion") {
		news["apiVersion"] = resource.NewStringProperty(gvk.GroupVersion().String())
	}
	if !news.HasValue("kind") {
		news["kind"] = resource.NewStringProperty(gvk.Kind)
	}
	metadata, settable := metadataOf(news)
	var failures []*pulumirpc.CheckFailure
	if settable {
		for _, readOnly := range []resource.PropertyKey{
			"creationTimestamp", "deletionGracePeriodSeconds", "deletionTimestamp", "generation", "managedFields",
			"resourceVersion", "selfLink", "uid",
		} {
			delete(metadata, readOnly)
		}
		if failure := name(urn, req, olds, metadata); failure != "" {
			failures = append(failures, &pulumirpc.CheckFailure{Property: "metadata.name", Reason: failure})
		}
		if !metadata.ContainsUnknowns() || !metadata["namespace"].IsComputed() {
			if !metadata.HasValue("namespace") && p.cluster.Namespace != "" && p.cluster.Namespaced(gvk) {
				metadata["namespace"] = resource.NewStringProperty(p.cluster.Namespace)
			}
		}
	}
	object.MarkSecrets(news, nil)
	inputs, err := marshal(news)
	if err != nil {
		return nil, err
	}
	return &pulumirpc.CheckResponse{Inputs: inputs, Failures: failures}, nil
}

// metadataOf returns the metadata to write into, making it where there is none. Metadata that is not known yet cannot
// be completed.
func metadataOf(news resource.PropertyMap) (resource.PropertyMap, bool) {
	value := news["metadata"]
	if value.IsSecret() {
		value = value.SecretValue().Element
	}
	switch {
	case value.IsObject():
		return value.ObjectValue(), true
	case value.IsComputed() || value.IsOutput():
		return nil, false
	}
	metadata := resource.PropertyMap{}
	news["metadata"] = resource.NewObjectProperty(metadata)
	return metadata, true
}

// name gives the object a name of its own if the program left that open. A name once given is kept until the object is
// replaced: the engine then checks the inputs again, without the old ones.
func name(urn resource.URN, req *pulumirpc.CheckRequest, olds, metadata resource.PropertyMap) string {
	if metadata.HasValue("generateName") {
		return "metadata.generateName is not supported with server-side apply; leave it out and a name is generated"
	}
	if value, ok := metadata["name"]; ok && (value.IsComputed() || value.IsOutput() || value.IsSecret() ||
		value.IsString() && value.StringValue() != "") {
		return ""
	}
	if object.IsPatch(urn) {
		return "a Patch resource needs the name of the object that it changes"
	}
	generated := ""
	if previous := object.ToUnstructured(olds); object.IsTrue(previous, object.Autonamed) {
		generated = previous.GetName()
	}
	if options := req.GetAutonaming(); generated == "" && options != nil {
		switch options.GetMode() {
		case pulumirpc.CheckRequest_AutonamingOptions_DISABLE:
			return "automatic naming is disabled for this stack; set metadata.name"
		default:
			generated = options.GetProposedName()
		}
	}
	if generated == "" {
		var err error
		if generated, err = resource.NewUniqueName(req.GetRandomSeed(), urn.Name()+"-", 0, 0, nil); err != nil {
			return fmt.Sprintf("no name could be generated: %v", err)
		}
	}
	metadata["name"] = resource.NewStringProperty(generated)
	annotations := metadata["annotations"]
	if annotations.IsComputed() || annotations.IsOutput() {
		return "" // the mark cannot be added to what is not known yet
	}
	marked := resource.PropertyMap{}
	if annotations.IsObject() {
		marked = annotations.ObjectValue()
	}
	marked[object.Autonamed] = resource.NewStringProperty("true")
	metadata["annotations"] = resource.NewObjectProperty(marked)
	return ""
}
