package provider

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"runbook/sandbox/toolchain/provider-kubernetes/internal/await"
	"runbook/sandbox/toolchain/provider-kubernetes/internal/object"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource/plugin"
	"github.com/pulumi/pulumi/sdk/v3/go/common/util/rpcutil/rpcerror"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/structpb"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// What the official provider keeps in the state beside the live object; the same, so that a stack can change sides.
const (
	inputsKey            = "__inputs"
	initialAPIVersionKey = "__initialApiVersion"
	fieldManagerKey      = "__fieldManager"
)

func unmarshal(properties *structpb.Struct, keepSecrets bool) (resource.PropertyMap, error) {
	return plugin.UnmarshalProperties(properties, plugin.MarshalOptions{
		KeepUnknowns: true, SkipNulls: true, KeepSecrets: keepSecrets,
	})
}

func marshal(properties resource.PropertyMap) (*structpb.Struct, error) {
	return plugin.MarshalProperties(properties, plugin.MarshalOptions{
		KeepUnknowns: true, SkipNulls: true, KeepSecrets: true,
	})
}

// checkpoint is what the state remembers of an object: as it is live, and what the program asked for.
func checkpoint(
	live *unstructured.Unstructured, inputs resource.PropertyMap, manager, initialAPIVersion string,
) resource.PropertyMap {
	state := object.FromUnstructured(object.Tidy(live).Object)
	object.MarkSecrets(state, inputs)
	object.MarkSecrets(inputs, nil)
	state[inputsKey] = resource.NewObjectProperty(inputs)
	state[initialAPIVersionKey] = resource.NewStringProperty(initialAPIVersion)
	state[fieldManagerKey] = resource.NewStringProperty(manager)
	return state
}

// remembered is a checkpoint taken apart.
type remembered struct {
	inputs            resource.PropertyMap
	live              *unstructured.Unstructured
	manager           string
	initialAPIVersion string
}

func recall(state resource.PropertyMap) remembered {
	var r remembered
	rest := resource.PropertyMap{}
	for key, value := range state {
		plain := value
		if plain.IsSecret() {
			plain = plain.SecretValue().Element
		}
		switch {
		case key == inputsKey && plain.IsObject():
			r.inputs = plain.ObjectValue()
		case key == fieldManagerKey && plain.IsString():
			r.manager = plain.StringValue()
		case key == initialAPIVersionKey && plain.IsString():
			r.initialAPIVersion = plain.StringValue()
		default:
			rest[key] = value
		}
	}
	r.live = object.ToUnstructured(rest)
	return r
}

// managerFor names the owner of the fields that a resource sets. The official provider draws a random name and keeps it
// in the state; derived from the URN, it is the same again after a run was killed before the state was written, so that
// the repeated run owns its object's fields alone.
func managerFor(urn resource.URN, remembered string, inputs *unstructured.Unstructured) string {
	if chosen := object.Annotation(inputs, object.PatchFieldManager); chosen != "" {
		return chosen
	}
	if remembered != "" {
		return remembered
	}
	sum := sha256.Sum256([]byte(urn))
	return "pulumi-kubernetes-" + hex.EncodeToString(sum[:4])
}

// withKind fills in what the URN already says, for inputs that do not.
func withKind(urn resource.URN, obj *unstructured.Unstructured) *unstructured.Unstructured {
	if gvk, ok := object.KindOf(urn); ok {
		if obj.GetAPIVersion() == "" {
			obj.SetAPIVersion(gvk.GroupVersion().String())
		}
		if obj.GetKind() == "" {
			obj.SetKind(gvk.Kind)
		}
	}
	return obj
}

// failure turns an error into one for the person in front, with the secrets of the resource blanked out.
func failure(what string, err error, secrets ...resource.PropertyMap) error {
	return rpcerror.New(codes.Unknown, redact(fmt.Sprintf("%s: %s", what, err), secrets...))
}

func redact(text string, secrets ...resource.PropertyMap) string {
	for _, props := range secrets {
		text = object.Redactor(props)(text)
	}
	return text
}

// partial reports an object that exists but is not ready: the engine keeps it in the state and tries again next time.
func partial(
	id string, notReady *await.NotReadyError, state, inputs *structpb.Struct, secrets resource.PropertyMap,
) error {
	hide := object.Redactor(secrets)
	lines := append([]string{notReady.Error()}, notReady.Clues...)
	message := hide(strings.Join(lines, "\n    "))
	return rpcerror.WithDetails(rpcerror.New(codes.Unknown, message), &pulumirpc.ErrorResourceInitFailed{
		Id: id, Properties: state, Inputs: inputs, Reasons: []string{message},
	})
}
