package object

import (
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
)

func TestMarkSecrets(t *testing.T) {
	outs := FromUnstructured(parse(t, `{"kind":"Secret","data":{"a":"b"},"stringData":{"c":"d"},"metadata":{"name":"n"}}`))
	MarkSecrets(outs, nil)
	if !outs["data"].IsSecret() || !outs["stringData"].IsSecret() || outs["metadata"].ContainsSecrets() {
		t.Errorf("a Secret's payload, and only that, must be secret: %v", outs)
	}

	ins := resource.PropertyMap{"spec": resource.NewObjectProperty(resource.PropertyMap{
		"replicas": resource.NewNumberProperty(2),
		"env": resource.NewArrayProperty([]resource.PropertyValue{
			resource.NewStringProperty("x"), resource.MakeSecret(resource.NewStringProperty("y")),
		}),
	})}
	outs = FromUnstructured(parse(t, `{"kind":"Deployment","spec":{"replicas":2,"env":["x","y"]}}`))
	MarkSecrets(outs, ins)
	spec := outs["spec"].ObjectValue()
	if !spec["env"].IsSecret() || spec["replicas"].IsSecret() {
		t.Errorf("the list with the secret, and only that, must be secret: %v", outs)
	}
}

func TestRedactorBlanksEveryForm(t *testing.T) {
	props := FromUnstructured(parse(t, `{"kind":"Secret","data":{"a":"aHVudGVyMg=="},"stringData":{"b":"correct horse"}}`))
	props["spec"] = resource.MakeSecret(resource.NewStringProperty("token-1234"))
	hide := Redactor(props)
	for _, leak := range []string{"hunter2", "aHVudGVyMg==", "correct horse", "Y29ycmVjdCBob3JzZQ==", "token-1234"} {
		if text := hide(`Invalid value: "` + leak + `"`); strings.Contains(text, leak) || !strings.Contains(text, "[secret]") {
			t.Errorf("%q survived: %s", leak, text)
		}
	}
	if hide("port 80") != "port 80" {
		t.Error("text without secrets must stay as it is")
	}
}
