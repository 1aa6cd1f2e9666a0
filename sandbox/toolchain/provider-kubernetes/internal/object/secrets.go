package object

import (
	"encoding/base64"
	"sort"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
)

// MarkSecrets makes secret in outs whatever is secret in ins, and always the payload of a Secret. Objects are followed
// into so that one secret field does not hide a whole Deployment; a list with a secret in it becomes secret as a whole,
// because the server may reorder it.
func MarkSecrets(outs, ins resource.PropertyMap) {
	if outs == nil {
		return
	}
	if kind := outs["kind"]; kind.IsString() && kind.StringValue() == "Secret" {
		for _, key := range []resource.PropertyKey{"data", "stringData"} {
			if value, ok := outs[key]; ok && !value.IsSecret() {
				outs[key] = resource.MakeSecret(value)
			}
		}
	}
	for key, in := range ins {
		out, ok := outs[key]
		switch {
		case !ok || out.IsSecret():
		case out.IsObject() && in.IsObject():
			MarkSecrets(out.ObjectValue(), in.ObjectValue())
		case in.ContainsSecrets():
			outs[key] = resource.MakeSecret(out)
		}
	}
}

// Redactor returns a function that blanks, in any text, every secret value of these properties, plain or as the base64
// that the API server would quote back in an error.
func Redactor(props resource.PropertyMap) func(string) string {
	values := map[string]bool{}
	collectSecrets(resource.NewObjectProperty(props), false, values)
	if kind := props["kind"]; kind.IsString() && kind.StringValue() == "Secret" {
		collectSecrets(props["data"], true, values)
		collectSecrets(props["stringData"], true, values)
	}
	ordered := make([]string, 0, len(values))
	for value := range values {
		ordered = append(ordered, value)
	}
	// Longest first, so that a secret that contains another one is not left half visible.
	sort.Slice(ordered, func(i, j int) bool { return len(ordered[i]) > len(ordered[j]) })
	pairs := make([]string, 0, 2*len(ordered))
	for _, value := range ordered {
		pairs = append(pairs, value, "[secret]")
	}
	return strings.NewReplacer(pairs...).Replace
}

func collectSecrets(v resource.PropertyValue, secret bool, values map[string]bool) {
	switch {
	case v.IsSecret():
		collectSecrets(v.SecretValue().Element, true, values)
	case v.IsObject():
		for _, element := range v.ObjectValue() {
			collectSecrets(element, secret, values)
		}
	case v.IsArray():
		for _, element := range v.ArrayValue() {
			collectSecrets(element, secret, values)
		}
	case v.IsString() && secret:
		text := v.StringValue()
		forms := []string{text, base64.StdEncoding.EncodeToString([]byte(text))}
		if decoded, err := base64.StdEncoding.DecodeString(text); err == nil {
			forms = append(forms, string(decoded))
		}
		for _, form := range forms {
			// Blanking very short strings would only make messages unreadable: "1" is in every one of them.
			if len(form) >= 4 {
				values[form] = true
			}
		}
	}
}
