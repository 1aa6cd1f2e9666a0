package provider

import (
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
)

// nowhere is a kubeconfig for an address at which nobody listens.
func nowhere(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	_ = listener.Close()
	return kubeconfigFor("https://" + address)
}

func kubeconfigFor(server string) string {
	return `{"apiVersion":"v1","kind":"Config","current-context":"c","clusters":[{"name":"c","cluster":{"server":"` + server +
		`"}}],"contexts":[{"name":"c","context":{"cluster":"c","user":"u"}}],"users":[{"name":"u","user":{}}]}`
}

func TestUnreachableCluster(t *testing.T) {
	p, said := newProvider(t, nowhere(t), nil)
	s := &stack{T: t, Provider: p, said: said}
	token := "kubernetes:core/v1:ConfigMap"
	inputs := s.checkProps(token, "c", nil, s.props(`{"metadata":{"name":"c"},"data":{"a":"1"}}`))

	preview, err := p.Create(t.Context(), &pulumirpc.CreateRequest{Urn: urnOf(token, "c"), Properties: inputs, Preview: true})
	if err != nil || s.decode(preview.GetProperties())["data"].ObjectValue()["a"].StringValue() != "1" {
		t.Errorf("a preview goes on without a cluster: %v %v", preview, err)
	}
	said.hears(t, "the cluster is unreachable")

	if _, err = p.Create(t.Context(), &pulumirpc.CreateRequest{Urn: urnOf(token, "c"), Properties: inputs}); err == nil ||
		!strings.Contains(err.Error(), "https://127.0.0.1:") || !strings.Contains(err.Error(), "unreachable") {
		t.Errorf("an update names the server: %v", err)
	}
	if _, err = p.Read(t.Context(), &pulumirpc.ReadRequest{Urn: urnOf(token, "c"), Id: "default/c"}); err == nil ||
		!strings.Contains(err.Error(), "PULUMI_K8S_DELETE_UNREACHABLE") {
		t.Errorf("a refresh says what to do: %v", err)
	}
}

func TestNoOpNeedsNoCluster(t *testing.T) {
	p, _ := newProvider(t, nowhere(t), nil)
	s := &stack{T: t, Provider: p}
	text := `{"metadata":{"name":"c","namespace":"n"},"data":{"a":"1"}}`
	k := kept{token: "kubernetes:core/v1:ConfigMap", name: "c", id: "n/c"}
	k.inputs = s.checkProps(k.token, k.name, nil, s.props(text))
	k.outputs = k.inputs
	if response, _ := s.diff(k, text); response.GetChanges() != pulumirpc.DiffResponse_DIFF_NONE {
		t.Errorf("got %v", response)
	}
}

func TestCheckNamesWhatHasNoName(t *testing.T) {
	p, _ := newProvider(t, nowhere(t), nil)
	s := &stack{T: t, Provider: p}
	token := "kubernetes:apps/v1:Deployment"
	first := s.checkProps(token, "web", nil, s.props(`{"spec":{}}`))
	metadata := s.decode(first)["metadata"].ObjectValue()
	name := metadata["name"].StringValue()
	if !strings.HasPrefix(name, "web-") || len(name) != len("web-")+8 ||
		metadata["annotations"].ObjectValue()["pulumi.com/autonamed"].StringValue() != "true" ||
		metadata["namespace"].StringValue() != "default" {
		t.Errorf("got %v", metadata)
	}
	again := s.decode(s.checkProps(token, "web", first, s.props(`{"spec":{"replicas":2}}`)))
	if again["metadata"].ObjectValue()["name"].StringValue() != name {
		t.Errorf("the name must stay: %v", again)
	}
	global := s.decode(s.checkProps("kubernetes:core/v1:Namespace", "n", nil, s.props(`{}`)))
	if global["metadata"].ObjectValue().HasValue("namespace") || global["kind"].StringValue() != "Namespace" {
		t.Errorf("a namespace lives in none: %v", global)
	}
	proposed, err := p.Check(t.Context(), &pulumirpc.CheckRequest{
		Urn: urnOf(token, "web"), News: s.encode(s.props(`{}`)),
		Autonaming: &pulumirpc.CheckRequest_AutonamingOptions{ProposedName: "web-proposed"},
	})
	if err != nil || s.decode(proposed.GetInputs())["metadata"].ObjectValue()["name"].StringValue() != "web-proposed" {
		t.Errorf("the engine's proposal counts: %v %v", proposed, err)
	}
	for text, reason := range map[string]string{
		`{"metadata":{"generateName":"x-"}}`: "generateName",
	} {
		response, err := p.Check(t.Context(), &pulumirpc.CheckRequest{Urn: urnOf(token, "web"), News: s.encode(s.props(text))})
		if err != nil || len(response.GetFailures()) != 1 || !strings.Contains(response.GetFailures()[0].GetReason(), reason) {
			t.Errorf("%s: %v %v", text, response, err)
		}
	}
}

func TestCheckLeavesUnknownsAlone(t *testing.T) {
	p, _ := newProvider(t, nowhere(t), nil)
	s := &stack{T: t, Provider: p}
	unknown := resource.MakeComputed(resource.NewStringProperty(""))
	props := resource.PropertyMap{"metadata": resource.NewObjectProperty(resource.PropertyMap{"name": unknown})}
	checked := s.decode(s.checkProps("kubernetes:core/v1:ConfigMap", "c", nil, props))
	if !checked["metadata"].ObjectValue()["name"].IsComputed() {
		t.Errorf("got %v", checked)
	}
}

func TestOutOfScopeIsSaid(t *testing.T) {
	p, _ := newProvider(t, nowhere(t), nil)
	for _, token := range []string{"kubernetes:helm.sh/v3:Release", "kubernetes:yaml/v2:ConfigGroup", "kubernetes:core/v1:PodList"} {
		_, err := p.Check(t.Context(), &pulumirpc.CheckRequest{Urn: urnOf(token, "x")})
		if err == nil || !strings.Contains(err.Error(), token) {
			t.Errorf("%s: %v", token, err)
		}
	}
	if _, err := p.Invoke(t.Context(), &pulumirpc.InvokeRequest{Tok: "kubernetes:yaml:decode"}); err == nil {
		t.Error("an invoke must be refused")
	}
}

func TestDiffConfig(t *testing.T) {
	p := New(t.Context(), "4.32.0")
	s := &stack{T: t, Provider: p}
	here, there := kubeconfigFor("https://here"), kubeconfigFor("https://there")
	otherUser := strings.Replace(here, `"user":{}`, `"user":{"token":"new"}`, 1)
	config := func(pairs ...string) resource.PropertyMap {
		props := resource.PropertyMap{}
		for i := 0; i < len(pairs); i += 2 {
			props[resource.PropertyKey(pairs[i])] = resource.NewStringProperty(pairs[i+1])
		}
		return props
	}
	for name, test := range map[string]struct {
		olds, news resource.PropertyMap
		replaces   []string
		changes    pulumirpc.DiffResponse_DiffChanges
	}{
		"same":            {config("kubeconfig", here), config("kubeconfig", here), nil, pulumirpc.DiffResponse_DIFF_NONE},
		"new credentials": {config("kubeconfig", here), config("kubeconfig", otherUser), nil, pulumirpc.DiffResponse_DIFF_SOME},
		"another cluster": {
			config("kubeconfig", here), config("kubeconfig", there), []string{"kubeconfig"}, pulumirpc.DiffResponse_DIFF_SOME,
		},
		"another cluster that the program calls the same": {
			config("kubeconfig", here, "clusterIdentifier", "x"), config("kubeconfig", there, "clusterIdentifier", "x"), nil,
			pulumirpc.DiffResponse_DIFF_SOME,
		},
		"another identifier": {
			config("kubeconfig", here, "clusterIdentifier", "x"), config("kubeconfig", here, "clusterIdentifier", "y"),
			[]string{"clusterIdentifier"}, pulumirpc.DiffResponse_DIFF_SOME,
		},
		"an option": {
			config("kubeconfig", here), config("kubeconfig", here, "deleteUnreachable", "true"), nil,
			pulumirpc.DiffResponse_DIFF_SOME,
		},
	} {
		response, err := p.DiffConfig(t.Context(), &pulumirpc.DiffRequest{Olds: s.encode(test.olds), News: s.encode(test.news)})
		if err != nil || response.GetChanges() != test.changes || !slices.Equal(response.GetReplaces(), test.replaces) {
			t.Errorf("%s: %v %v", name, response, err)
		}
	}
	unknown := config()
	unknown["kubeconfig"] = resource.MakeComputed(resource.NewStringProperty(""))
	response, err := p.DiffConfig(t.Context(), &pulumirpc.DiffRequest{
		Olds: s.encode(config("kubeconfig", here)), News: s.encode(unknown),
	})
	if err != nil || !slices.Equal(response.GetReplaces(), []string{"kubeconfig"}) {
		t.Errorf("an unknown kubeconfig may be another cluster: %v %v", response, err)
	}
}
