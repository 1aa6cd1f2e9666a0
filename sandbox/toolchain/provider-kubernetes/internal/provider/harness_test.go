package provider

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"runbook/sandbox/toolchain/provider-kubernetes/internal/object"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/common/util/rpcutil/rpcerror"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/structpb"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
)

// recorder is an engine that only listens.
type recorder struct {
	pulumirpc.EngineClient
	mu       sync.Mutex
	messages []string
	heard    chan struct{}
}

func (r *recorder) Log(_ context.Context, req *pulumirpc.LogRequest, _ ...grpc.CallOption) (*emptypb.Empty, error) {
	r.mu.Lock()
	r.messages = append(r.messages, req.GetMessage())
	r.mu.Unlock()
	select {
	case r.heard <- struct{}{}:
	default:
	}
	return &emptypb.Empty{}, nil
}

// hears blocks until a message with this text has arrived: the provider tells what it waits for, which is the moment
// for a test to play the controller.
func (r *recorder) hears(t *testing.T, text string) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		r.mu.Lock()
		all := strings.Join(r.messages, "\n")
		r.mu.Unlock()
		if strings.Contains(all, text) {
			return
		}
		select {
		case <-r.heard:
		case <-deadline:
			t.Fatalf("nothing was said about %q, but:\n%s", text, all)
		}
	}
}

// stack plays the engine for the resources of one test, in a namespace of its own.
type stack struct {
	*testing.T
	*Provider
	said      *recorder
	namespace string
	timeout   float64 // seconds; a test that hangs must not hang for long
}

var stackCount int

func newStack(t *testing.T, variables map[string]string) *stack {
	t.Helper()
	needsCluster(t)
	s := &stack{T: t, timeout: 20}
	s.restart(variables)
	stackCount++
	s.namespace = fmt.Sprintf("test-%d", stackCount)
	s.create("kubernetes:core/v1:Namespace", s.namespace, fmt.Sprintf(`{"metadata":{"name":%q}}`, s.namespace))
	return s
}

// restart gives the stack a new provider process, as every engine run does.
func (s *stack) restart(variables map[string]string) {
	s.Helper()
	s.Provider, s.said = newProvider(s.T, testKubeconfig, variables)
}

func newProvider(t *testing.T, kubeconfig string, variables map[string]string) (*Provider, *recorder) {
	t.Helper()
	p := New(t.Context(), "4.32.0")
	said := &recorder{heard: make(chan struct{}, 1)}
	p.engine.client = said
	settings := map[string]string{"kubernetes:config:kubeconfig": kubeconfig}
	for key, value := range variables {
		settings["kubernetes:config:"+key] = value
	}
	if _, err := p.Configure(t.Context(), &pulumirpc.ConfigureRequest{Variables: settings}); err != nil {
		t.Fatal(err)
	}
	return p, said
}

func urnOf(token, name string) string {
	return "urn:pulumi:test::project::" + token + "::" + name
}

// resource is what the engine's state keeps of one resource.
type kept struct {
	token, name, id string
	inputs, outputs *structpb.Struct
}

func (s *stack) props(text string) resource.PropertyMap {
	s.Helper()
	parsed := map[string]any{}
	if err := json.Unmarshal([]byte(strings.ReplaceAll(text, "NAMESPACE", s.namespace)), &parsed); err != nil {
		s.Fatalf("%v in %s", err, text)
	}
	return resource.NewPropertyMapFromMap(parsed)
}

func (s *stack) encode(props resource.PropertyMap) *structpb.Struct {
	s.Helper()
	encoded, err := marshal(props)
	if err != nil {
		s.Fatal(err)
	}
	return encoded
}

func (s *stack) decode(encoded *structpb.Struct) resource.PropertyMap {
	s.Helper()
	props, err := unmarshal(encoded, true)
	if err != nil {
		s.Fatal(err)
	}
	return props
}

func (s *stack) checkProps(token, name string, olds *structpb.Struct, props resource.PropertyMap) *structpb.Struct {
	s.Helper()
	response, err := s.Check(s.Context(), &pulumirpc.CheckRequest{
		Urn: urnOf(token, name), Olds: olds, News: s.encode(props), RandomSeed: []byte("a seed that is long enough to use"),
	})
	if err != nil {
		s.Fatal(err)
	}
	if len(response.GetFailures()) > 0 {
		s.Fatalf("check failed: %v", response.GetFailures())
	}
	return response.GetInputs()
}

func (s *stack) tryCreate(token, name, inputs string) (kept, error) {
	s.Helper()
	k := kept{token: token, name: name, inputs: s.checkProps(token, name, nil, s.props(inputs))}
	response, err := s.Create(s.Context(), &pulumirpc.CreateRequest{
		Urn: urnOf(token, name), Properties: k.inputs, Timeout: s.timeout,
	})
	if err != nil {
		return k.failed(err), err
	}
	k.id, k.outputs = response.GetId(), response.GetProperties()
	return k, nil
}

// failed takes over what a partial failure leaves in the state.
func (k kept) failed(err error) kept {
	if details := initFailed(err); details != nil {
		k.id, k.outputs = details.GetId(), details.GetProperties()
	}
	return k
}

func initFailed(err error) *pulumirpc.ErrorResourceInitFailed {
	for _, detail := range rpcerror.Convert(err).Details() {
		if details, ok := detail.(*pulumirpc.ErrorResourceInitFailed); ok {
			return details
		}
	}
	return nil
}

func (s *stack) create(token, name, inputs string) kept {
	s.Helper()
	k, err := s.tryCreate(token, name, inputs)
	if err != nil {
		s.Fatal(err)
	}
	return k
}

func (s *stack) diff(k kept, inputs string) (*pulumirpc.DiffResponse, *structpb.Struct) {
	s.Helper()
	return s.diffProps(k, s.props(inputs))
}

func (s *stack) diffProps(k kept, props resource.PropertyMap) (*pulumirpc.DiffResponse, *structpb.Struct) {
	s.Helper()
	news := s.checkProps(k.token, k.name, k.inputs, props)
	response, err := s.Diff(s.Context(), &pulumirpc.DiffRequest{
		Id: k.id, Urn: urnOf(k.token, k.name), Olds: k.outputs, OldInputs: k.inputs, News: news,
	})
	if err != nil {
		s.Fatal(err)
	}
	return response, news
}

func (s *stack) tryUpdate(k kept, inputs string) (kept, error) {
	s.Helper()
	news := s.checkProps(k.token, k.name, k.inputs, s.props(inputs))
	response, err := s.Update(s.Context(), &pulumirpc.UpdateRequest{
		Id: k.id, Urn: urnOf(k.token, k.name), Olds: k.outputs, OldInputs: k.inputs, News: news,
		Timeout: s.timeout,
	})
	if err != nil {
		return k, err
	}
	k.inputs, k.outputs = news, response.GetProperties()
	return k, nil
}

func (s *stack) update(k kept, inputs string) kept {
	s.Helper()
	updated, err := s.tryUpdate(k, inputs)
	if err != nil {
		s.Fatal(err)
	}
	return updated
}

func (s *stack) delete(k kept) error {
	_, err := s.Delete(s.Context(), &pulumirpc.DeleteRequest{
		Id: k.id, Urn: urnOf(k.token, k.name), Properties: k.outputs, OldInputs: k.inputs, Timeout: s.timeout,
	})
	return err
}

// live reads an object past the provider.
func (s *stack) live(k kept) *unstructured.Unstructured {
	s.Helper()
	client, err := s.cluster.Resource(recall(s.decode(k.outputs)).live)
	if err != nil {
		s.Fatal(err)
	}
	_, name := object.ParseID(k.id)
	live, err := client.Get(s.Context(), name, metav1.GetOptions{})
	if err != nil {
		s.Fatal(err)
	}
	return live
}

// patch changes an object past the provider, as a controller or a person with kubectl would.
func (s *stack) patch(apiVersion, kind, name, patch string, subresources ...string) {
	s.Helper()
	target := &unstructured.Unstructured{}
	target.SetAPIVersion(apiVersion)
	target.SetKind(kind)
	target.SetNamespace(s.namespace)
	client, err := s.cluster.Resource(target)
	if err != nil {
		s.Fatal(err)
	}
	_, err = client.Patch(s.Context(), name, types.MergePatchType, []byte(patch),
		metav1.PatchOptions{FieldManager: "controller"}, subresources...)
	if err != nil {
		s.Fatal(err)
	}
}

// result runs something that waits in the background.
func inBackground[T any](run func() (T, error)) <-chan outcome[T] {
	done := make(chan outcome[T], 1)
	go func() {
		value, err := run()
		done <- outcome[T]{value, err}
	}()
	return done
}

type outcome[T any] struct {
	value T
	err   error
}

func soon[T any](t *testing.T, done <-chan outcome[T]) outcome[T] {
	t.Helper()
	select {
	case result := <-done:
		return result
	case <-time.After(20 * time.Second):
		t.Fatal("still waiting after 20 s")
		panic("unreachable")
	}
}
