package provider

import (
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
)

func (s *stack) preview(token, name, inputs string) (resource.PropertyMap, error) {
	s.Helper()
	response, err := s.Create(s.Context(), &pulumirpc.CreateRequest{
		Urn: urnOf(token, name), Properties: s.checkProps(token, name, nil, s.props(inputs)), Preview: true,
	})
	if err != nil {
		return nil, err
	}
	return s.decode(response.GetProperties()), nil
}

func TestPreviewShowsWhatTheServerWouldMakeOfIt(t *testing.T) {
	s := newStack(t, nil)
	shown, err := s.preview(deployment, "web", web)
	if err != nil || shown["spec"].ObjectValue()["revisionHistoryLimit"].NumberValue() != 10 || shown.HasValue("status") {
		t.Errorf("got %v %v", shown, err)
	}
	_, err = s.preview(deployment, "web", strings.Replace(web, `"app":"web"`, `"app":"mismatch"`, 1))
	if err == nil || !strings.Contains(err.Error(), "would not be created") {
		t.Errorf("what the server would refuse must fail in the preview: %v", err)
	}
}

func TestPreviewBeforeTheNamespaceExists(t *testing.T) {
	s := newStack(t, nil)
	shown, err := s.preview(configMap, "c", `{"metadata":{"name":"c","namespace":"not-there-yet"},"data":{"a":"1"}}`)
	if err != nil || shown["data"].ObjectValue()["a"].StringValue() != "1" {
		t.Errorf("got %v %v", shown, err)
	}
}

func TestPreviewOfAKindThatIsNotDefinedYet(t *testing.T) {
	s := newStack(t, nil)
	if _, err := s.preview("kubernetes:example.com/v1:Thing", "c", `{"metadata":{"name":"c"},"spec":{}}`); err != nil {
		t.Error(err)
	}
}

func TestPreviewLeavesOpenWhatOnlyTheServerDecides(t *testing.T) {
	s := newStack(t, nil)
	shown, err := s.preview(service, "svc",
		`{"metadata":{"name":"svc","namespace":"NAMESPACE"},"spec":{"selector":{"a":"b"},"ports":[{"port":80}]}}`)
	if err != nil {
		t.Fatal(err)
	}
	spec := shown["spec"].ObjectValue()
	if !spec["clusterIP"].IsComputed() || spec["type"].StringValue() != "ClusterIP" || shown["metadata"].ContainsUnknowns() {
		t.Errorf("got %v", shown)
	}
	headless, err := s.preview(service, "svc",
		`{"metadata":{"name":"svc","namespace":"NAMESPACE"},"spec":{"clusterIP":"None","ports":[{"port":80}]}}`)
	if err != nil || headless.ContainsUnknowns() {
		t.Errorf("got %v %v", headless, err)
	}
}

func TestPreviewWithUnknownInputs(t *testing.T) {
	s := newStack(t, nil)
	unknown := resource.MakeComputed(resource.NewStringProperty(""))
	inputs := s.props(`{"metadata":{"name":"c","namespace":"NAMESPACE"},"data":{"a":"1"}}`)
	k := s.create(configMap, "c", `{"metadata":{"name":"c","namespace":"NAMESPACE"},"data":{"a":"1"}}`)
	inputs["data"].ObjectValue()["a"] = unknown

	created, err := s.Create(t.Context(), &pulumirpc.CreateRequest{
		Urn: urnOf(configMap, "c"), Properties: s.checkProps(configMap, "c", nil, inputs), Preview: true,
	})
	if err != nil || !s.decode(created.GetProperties())["data"].ObjectValue()["a"].IsComputed() {
		t.Errorf("create: %v %v", created, err)
	}
	response, news := s.diffProps(k, inputs)
	if response.GetDetailedDiff()["data.a"].GetKind() != pulumirpc.PropertyDiff_UPDATE_REPLACE {
		t.Errorf("what is unknown may change: %v", response)
	}
	updated, err := s.Update(t.Context(), &pulumirpc.UpdateRequest{
		Id: k.id, Urn: urnOf(configMap, "c"), Olds: k.outputs, News: news, Preview: true,
	})
	if err != nil || !s.decode(updated.GetProperties())["data"].ObjectValue()["a"].IsComputed() {
		t.Errorf("update: %v %v", updated, err)
	}
}

func TestPreviewOfASameNameReplacement(t *testing.T) {
	s := newStack(t, nil)
	job := func(image string) string {
		return strings.Replace(failing, "job:1", image, 1)
	}
	s.create(jobToken, "j", strings.Replace(failing, `"namespace":"NAMESPACE"`,
		`"namespace":"NAMESPACE","annotations":{"pulumi.com/skipAwait":"true"}`, 1))
	if _, err := s.preview(jobToken, "j", job("job:2")); err != nil {
		t.Errorf("the old Job will be gone by then: %v", err)
	}
}

func TestPreviewChangesNothing(t *testing.T) {
	s := newStack(t, nil)
	k := s.create(deployment, "web", web)
	news := s.checkProps(k.token, k.name, k.inputs, s.props(strings.Replace(web, "web:1", "web:2", 1)))
	before := s.live(k).GetResourceVersion()
	response, err := s.Update(t.Context(), &pulumirpc.UpdateRequest{
		Id: k.id, Urn: urnOf(k.token, k.name), Olds: k.outputs, News: news, Preview: true,
	})
	if err != nil || !strings.Contains(response.GetProperties().String(), "web:2") {
		t.Errorf("got %v %v", response, err)
	}
	if s.live(k).GetResourceVersion() != before {
		t.Error("the object has changed")
	}
}
