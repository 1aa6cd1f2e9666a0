package provider

import (
	"slices"
	"strings"
	"testing"

	"runbook/sandbox/toolchain/provider-kubernetes/internal/object"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

const (
	configMap  = "kubernetes:core/v1:ConfigMap"
	secret     = "kubernetes:core/v1:Secret"
	deployment = "kubernetes:apps/v1:Deployment"
	jobToken   = "kubernetes:batch/v1:Job"
	service    = "kubernetes:core/v1:Service"
)

// web is a Deployment that nobody waits for.
const web = `{"metadata":{"name":"web","namespace":"NAMESPACE","annotations":{"pulumi.com/skipAwait":"true"}},
	"spec":{"replicas":2,"selector":{"matchLabels":{"app":"web"}},"template":{"metadata":{"labels":{"app":"web"}},
	"spec":{"hostNetwork":false,"containers":[{"name":"app","image":"web:1","resources":{"requests":{"cpu":"1000m"}},
	"env":[{"name":"A","value":"1"},{"name":"B","value":""}]}]}}}}`

func TestSecondUpShowsNoChanges(t *testing.T) {
	s := newStack(t, nil)
	k := s.create(deployment, "web", web)
	response, _ := s.diff(k, web)
	if response.GetChanges() != pulumirpc.DiffResponse_DIFF_NONE || len(response.GetReplaces()) > 0 {
		t.Errorf("got %v", response)
	}
}

func TestUpdateRemovesWhatTheProgramNoLongerSays(t *testing.T) {
	s := newStack(t, nil)
	k := s.create(deployment, "web", web)
	without := strings.Replace(web, `{"name":"A","value":"1"},`, "", 1)
	without = strings.Replace(without, "web:1", "web:2", 1)
	response, _ := s.diff(k, without)
	if len(response.GetReplaces()) > 0 || response.GetDetailedDiff()["spec.template.spec.containers[0].image"].GetKind() !=
		pulumirpc.PropertyDiff_UPDATE {
		t.Errorf("got %v", response)
	}
	k = s.update(k, without)
	containers, _, _ := unstructured.NestedSlice(s.live(k).Object, "spec", "template", "spec", "containers")
	app := containers[0].(map[string]any)
	if env := app["env"].([]any); len(env) != 1 || app["image"] != "web:2" {
		t.Errorf("got %v", app)
	}
}

func TestReplacement(t *testing.T) {
	s := newStack(t, nil)
	named := func(text string) string { return `{"metadata":{"name":"x","namespace":"NAMESPACE"},` + text + `}` }
	free := func(text string) string { return `{"metadata":{"namespace":"NAMESPACE"},` + text + `}` }
	role := func(ref string) string {
		return named(`"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"Role","name":"` + ref + `"}`)
	}
	for name, test := range map[string]struct {
		token, before, after string
		replaces             []string
		deleteFirst          bool
	}{
		"the data of a named ConfigMap": {
			configMap, named(`"data":{"a":"1"}`), named(`"data":{"a":"2"}`), []string{"data.a"}, true,
		},
		"the data of an autonamed ConfigMap": {
			configMap, free(`"data":{"a":"1"}`), free(`"data":{"a":"2"}`), []string{"data.a"}, false,
		},
		"a new name": {
			configMap, named(`"data":{"a":"1"}`), strings.Replace(named(`"data":{"a":"1"}`), `"x"`, `"y"`, 1),
			[]string{"metadata.name"}, false,
		},
		"another namespace": {
			configMap, named(`"data":{"a":"1"}`), strings.Replace(named(`"data":{"a":"1"}`), "NAMESPACE", "default", 1),
			[]string{"metadata.namespace"}, false,
		},
		"labels change in place": {
			configMap, named(`"data":{"a":"1"}`),
			`{"metadata":{"name":"x","namespace":"NAMESPACE","labels":{"l":"1"}},"data":{"a":"1"}}`, nil, false,
		},
		"a deployment's selector": {
			deployment, web, strings.ReplaceAll(web, `"app":"web"`, `"app":"other"`),
			[]string{"spec.selector.matchLabels.app"}, true,
		},
		"a role binding's role": {
			"kubernetes:rbac.authorization.k8s.io/v1:RoleBinding", role("one"), role("two"), []string{"roleRef.name"}, true,
		},
		// Not in the official provider's list: only the dry run knows it.
		"a field that only the API server calls immutable": {
			"kubernetes:scheduling.k8s.io/v1:PriorityClass", `{"metadata":{"name":"p-NAMESPACE"},"value":1}`,
			`{"metadata":{"name":"p-NAMESPACE"},"value":2}`, []string{"value"}, true,
		},
		"thawing an immutable ConfigMap": {
			configMap, named(`"immutable":true,"data":{"a":"1"}`), named(`"immutable":false,"data":{"a":"1"}`),
			[]string{"immutable"}, true,
		},
		"a claim's size is never worth its data": {
			"kubernetes:core/v1:PersistentVolumeClaim",
			`{"metadata":{"name":"c","namespace":"NAMESPACE","annotations":{"pulumi.com/skipAwait":"true"}},
				"spec":{"accessModes":["ReadWriteOnce"],"volumeMode":"Filesystem","resources":{"requests":{"storage":"1Gi"}}}}`,
			`{"metadata":{"name":"c","namespace":"NAMESPACE","annotations":{"pulumi.com/skipAwait":"true"}},
				"spec":{"accessModes":["ReadWriteOnce"],"volumeMode":"Block","resources":{"requests":{"storage":"1Gi"}}}}`,
			nil, false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			k := s.create(test.token, "r", test.before)
			response, _ := s.diff(k, test.after)
			if !slices.Equal(response.GetReplaces(), test.replaces) || response.GetDeleteBeforeReplace() != test.deleteFirst ||
				response.GetChanges() != pulumirpc.DiffResponse_DIFF_SOME {
				t.Errorf("got %v", response)
			}
			s.purge(k)
		})
	}
}

func TestSecretsStaySecret(t *testing.T) {
	s := newStack(t, nil)
	k := s.create(secret, "s", `{"metadata":{"name":"s","namespace":"NAMESPACE"},"stringData":{"password":"canary-value"}}`)
	for what, props := range map[string]resource.PropertyMap{"inputs": s.decode(k.inputs), "outputs": s.decode(k.outputs)} {
		if !props.ContainsSecrets() || strings.Contains(withoutSecrets(props), "canary-value") ||
			strings.Contains(withoutSecrets(props), "Y2FuYXJ5LXZhbHVl") {
			t.Errorf("%s leak: %s", what, withoutSecrets(props))
		}
	}
	if !s.decode(k.outputs)["data"].IsSecret() {
		t.Error("data must be secret")
	}
	// The same for an object that somebody made with kubectl apply, whose annotation repeats the data.
	s.patch("v1", "Secret", "s",
		`{"metadata":{"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"canary-value"}}}`)
	read, err := s.Read(t.Context(), &pulumirpc.ReadRequest{Urn: urnOf(secret, "s"), Id: s.namespace + "/s"})
	if err != nil {
		t.Fatal(err)
	}
	if all := withoutSecrets(s.decode(read.GetProperties())) + withoutSecrets(s.decode(read.GetInputs())); strings.Contains(
		all, "canary-value") || strings.Contains(all, "Y2FuYXJ5LXZhbHVl") {
		t.Errorf("an import leaks: %s", all)
	}
	_, err = s.tryCreate(secret, "bad", `{"metadata":{"name":"bad","namespace":"NAMESPACE"},"type":"kubernetes.io/tls",
		"data":{"tls.crt":"bm90IGEgY2VydGlmaWNhdGU="}}`)
	if err == nil || strings.Contains(err.Error(), "bm90IGEgY2VydGlmaWNhdGU") || strings.Contains(err.Error(), "not a certificate") {
		t.Errorf("an error leaks: %v", err)
	}
}

func TestErrorsDoNotQuoteSecrets(t *testing.T) {
	s := newStack(t, nil)
	props := s.props(`{"metadata":{"name":"q","namespace":"NAMESPACE"},"spec":{"hard":{"pods":"1"}}}`)
	props["spec"].ObjectValue()["hard"].ObjectValue()["pods"] = resource.MakeSecret(resource.NewStringProperty("-1234567"))
	inputs := s.checkProps("kubernetes:core/v1:ResourceQuota", "q", nil, props)
	_, err := s.Create(t.Context(), &pulumirpc.CreateRequest{
		Urn: urnOf("kubernetes:core/v1:ResourceQuota", "q"), Properties: inputs,
	})
	if err == nil || strings.Contains(err.Error(), "1234567") || !strings.Contains(err.Error(), "[secret]") {
		t.Errorf("the API server quotes the value, the provider must not: %v", err)
	}
}

// withoutSecrets prints properties with every secret left out.
func withoutSecrets(props resource.PropertyMap) string {
	visible := props.MapRepl(nil, func(v resource.PropertyValue) (any, bool) { return "", v.IsSecret() })
	text, _ := (&unstructured.Unstructured{Object: visible}).MarshalJSON()
	return string(text)
}

func TestRepeatedCreateAdoptsItsObject(t *testing.T) {
	s := newStack(t, nil)
	first := s.create(deployment, "web", web)
	// The engine was killed before it wrote its state; the same program runs again, then changes.
	s.restart(nil)
	second := s.create(deployment, "web", web)
	if s.live(first).GetUID() != s.live(second).GetUID() {
		t.Error("the object must be the same")
	}
	changed := strings.Replace(strings.Replace(web, "web:1", "web:2", 1), `"replicas":2,`, "", 1)
	second = s.update(second, changed)
	managers := 0
	for _, entry := range s.live(second).GetManagedFields() {
		if entry.Operation == "Apply" {
			managers++
		}
	}
	if managers != 1 {
		t.Errorf("one manager must own the fields, not %d", managers)
	}
}

func TestConflictIsExplainedAndCanBeForced(t *testing.T) {
	s := newStack(t, nil)
	k := s.create(deployment, "web", web)
	s.patch("apps/v1", "Deployment", "web", `{"spec":{"replicas":7}}`)
	changed := strings.Replace(web, `"replicas":2`, `"replicas":3`, 1)
	_, err := s.tryUpdate(k, changed)
	if err == nil || !strings.Contains(err.Error(), "spec.replicas (controller)") || !strings.Contains(err.Error(), "patchForce") {
		t.Fatalf("got %v", err)
	}
	k = s.update(k, strings.Replace(changed, `"annotations":{`, `"annotations":{"pulumi.com/patchForce":"true",`, 1))
	if replicas, _, _ := unstructured.NestedInt64(s.live(k).Object, "spec", "replicas"); replicas != 3 {
		t.Errorf("got %d replicas", replicas)
	}
}

func TestImport(t *testing.T) {
	s := newStack(t, nil)
	made := s.create(deployment, "web", web)
	read, err := s.Read(t.Context(), &pulumirpc.ReadRequest{Urn: urnOf(deployment, "imported"), Id: made.id})
	if err != nil {
		t.Fatal(err)
	}
	inputs := s.decode(read.GetInputs())
	if read.GetId() != made.id || inputs.HasValue("status") || inputs["metadata"].ObjectValue().HasValue("uid") ||
		inputs["kind"].StringValue() != "Deployment" {
		t.Errorf("got %v", inputs)
	}
	gone, err := s.Read(t.Context(), &pulumirpc.ReadRequest{Urn: urnOf(deployment, "x"), Id: s.namespace + "/nothing"})
	if err != nil || gone.GetId() != "" {
		t.Errorf("what is not there is reported so: %v %v", gone, err)
	}
}

func TestRefreshShowsDriftAndNothingElse(t *testing.T) {
	s := newStack(t, nil)
	k := s.create(deployment, "web", web)
	refresh := func() resource.PropertyMap {
		read, err := s.Read(t.Context(), &pulumirpc.ReadRequest{
			Urn: urnOf(k.token, k.name), Id: k.id, Properties: k.outputs, Inputs: k.inputs,
		})
		if err != nil {
			t.Fatal(err)
		}
		return s.decode(read.GetInputs())
	}
	if diff := s.decode(k.inputs).Diff(refresh()); diff != nil {
		t.Errorf("nothing has drifted, yet %v", diff)
	}
	s.patch("apps/v1", "Deployment", "web", `{"spec":{"replicas":5}}`)
	drifted := refresh()
	if replicas := drifted["spec"].ObjectValue()["replicas"].NumberValue(); replicas != 5 {
		t.Errorf("got %v replicas", replicas)
	}
	k.inputs = s.encode(drifted)
	if response, _ := s.diff(k, web); response.GetDetailedDiff()["spec.replicas"] == nil {
		t.Errorf("the next preview must undo the drift: %v", response)
	}
}

func TestIgnoredFieldOfAnotherManagerIsLeftToIt(t *testing.T) {
	s := newStack(t, nil)
	k := s.create(deployment, "web", strings.Replace(web, `"replicas":2,`, "", 1))
	s.patch("apps/v1", "Deployment", "web", `{"spec":{"replicas":7}}`)
	news := s.checkProps(k.token, k.name, k.inputs, s.props(strings.Replace(web, "web:1", "web:2", 1)))
	response, err := s.Update(t.Context(), &pulumirpc.UpdateRequest{
		Id: k.id, Urn: urnOf(k.token, k.name), Olds: k.outputs, OldInputs: k.inputs, News: news,
		IgnoreChanges: []string{"spec.replicas"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if replicas := s.decode(response.GetProperties())["spec"].ObjectValue()["replicas"].NumberValue(); replicas != 7 {
		t.Errorf("got %v replicas", replicas)
	}
}

func TestPatchResourceGivesItsFieldsBack(t *testing.T) {
	s := newStack(t, nil)
	s.create(configMap, "c", `{"metadata":{"name":"c","namespace":"NAMESPACE"},"data":{"a":"1"}}`)
	k := s.create("kubernetes:core/v1:ConfigMapPatch", "p",
		`{"kind":"ConfigMap","metadata":{"name":"c","namespace":"NAMESPACE"},"data":{"b":"2"}}`)
	if data, _, _ := unstructured.NestedStringMap(s.live(k).Object, "data"); data["a"] != "1" || data["b"] != "2" {
		t.Errorf("got %v", data)
	}
	s.restart(nil)
	if err := s.delete(k); err != nil {
		t.Fatal(err)
	}
	if data, _, _ := unstructured.NestedStringMap(s.live(k).Object, "data"); data["a"] != "1" || len(data) != 1 {
		t.Errorf("got %v", data)
	}
}

func TestStateKeepsWhatTheOfficialProviderKeeps(t *testing.T) {
	s := newStack(t, nil)
	k := s.create(configMap, "c", `{"metadata":{"name":"c","namespace":"NAMESPACE"},"data":{"a":"1"}}`)
	outputs := s.decode(k.outputs)
	manager := outputs[fieldManagerKey].StringValue()
	if !strings.HasPrefix(manager, "pulumi-kubernetes-") || outputs[initialAPIVersionKey].StringValue() != "v1" ||
		!outputs[inputsKey].IsObject() || k.id != s.namespace+"/c" {
		t.Errorf("got %v", outputs)
	}
	if got := object.ToUnstructured(outputs).GetUID(); got == "" {
		t.Error("the live object must be in the outputs")
	}
}
