package object

import (
	"encoding/base64"
	"encoding/json"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"
)

// normalize passes an object through its Go type, so that two spellings of one meaning (cpu "1000m" and "1", false and
// absent) become equal. Kinds that are not built in, and objects that do not fit their type, are left as they are: the
// server will have its say about them.
func normalize(obj map[string]any) map[string]any {
	u := &unstructured.Unstructured{Object: obj}
	gvk := schema.FromAPIVersionAndKind(u.GetAPIVersion(), u.GetKind())
	typed, err := scheme.Scheme.New(gvk)
	if err != nil || HasUnknowns(obj) {
		return obj
	}
	encoded, err := json.Marshal(obj)
	if err != nil || json.Unmarshal(encoded, typed) != nil {
		return obj
	}
	encoded, err = json.Marshal(typed)
	normalized := map[string]any{}
	if err != nil || json.Unmarshal(encoded, &normalized) != nil {
		return obj
	}
	if gvk.Group == "" && gvk.Kind == "Secret" {
		mergeStringData(normalized)
	}
	return normalized
}

// mergeStringData does what the API server does with this write-only field.
func mergeStringData(secret map[string]any) {
	stringData, _ := secret["stringData"].(map[string]any)
	if len(stringData) == 0 {
		return
	}
	data, _ := secret["data"].(map[string]any)
	if data == nil {
		data = map[string]any{}
		secret["data"] = data
	}
	for key, value := range stringData {
		if text, ok := value.(string); ok {
			data[key] = base64.StdEncoding.EncodeToString([]byte(text))
		}
	}
	delete(secret, "stringData")
}
