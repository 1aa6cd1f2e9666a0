package object

import (
	"encoding/base64"
	"reflect"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// LiveInputs answers "what would the program have to say to get what is live?", for the fields the program speaks about:
// this is how drift becomes visible without showing every default the server filled in.
func LiveInputs(live *unstructured.Unstructured, inputs map[string]any) map[string]any {
	normal := normalize(inputs)
	result, _ := liveValue(live.Object, inputs, normal).(map[string]any)
	if live.GetKind() == "Secret" && live.GetAPIVersion() == "v1" {
		restoreStringData(result, live, inputs)
	}
	return result
}

// liveValue follows the shape of the inputs. normal is the same place in the normalized inputs: where it equals what is
// live, the program's own spelling is kept.
func liveValue(live, input, normal any) any {
	if equal(live, input) || equal(live, normal) {
		return input
	}
	switch input := input.(type) {
	case map[string]any:
		live, ok := live.(map[string]any)
		if !ok {
			break
		}
		result := map[string]any{}
		for key, value := range input {
			switch current, exists := live[key]; {
			case exists:
				result[key] = liveValue(current, value, at(normal, key))
			case isZero(value):
				result[key] = value // the server does not store empty values; their absence is no drift
			}
		}
		return result
	case []any:
		live, ok := live.([]any)
		if !ok {
			break
		}
		result := []any{}
		for i, value := range input {
			current, found := partner(live, value, i)
			if found {
				result = append(result, liveValue(current, value, at(normal, i)))
			}
		}
		return result
	}
	return live
}

// partner finds the live element that an input element describes: by name where elements have names (the server may
// have put others in between), else by position.
func partner(live []any, input any, i int) (any, bool) {
	if name, ok := at(input, "name").(string); ok {
		for _, element := range live {
			if at(element, "name") == name {
				return element, true
			}
		}
		return nil, false
	}
	if i < len(live) {
		return live[i], true
	}
	return nil, false
}

func isZero(value any) bool {
	switch value := value.(type) {
	case nil:
		return true
	case map[string]any:
		return len(value) == 0
	case []any:
		return len(value) == 0
	}
	return reflect.ValueOf(value).IsZero()
}

// restoreStringData shows the live data of a Secret under stringData where the program wrote it there.
func restoreStringData(result map[string]any, live *unstructured.Unstructured, inputs map[string]any) {
	written, _ := inputs["stringData"].(map[string]any)
	if len(written) == 0 {
		return
	}
	data, _ := live.Object["data"].(map[string]any)
	current := map[string]any{}
	for key := range written {
		if encoded, ok := data[key].(string); ok {
			if decoded, err := base64.StdEncoding.DecodeString(encoded); err == nil {
				current[key] = string(decoded)
			}
		}
	}
	result["stringData"] = current
}

// ImportInputs guesses inputs for an object that no program has described yet: all of it, less what only the server writes.
func ImportInputs(live *unstructured.Unstructured) map[string]any {
	inputs := Tidy(live).Object
	delete(inputs, "status")
	dropServerMetadata(inputs)
	unstructured.RemoveNestedField(inputs, "metadata", "annotations", "deployment.kubernetes.io/revision")
	if annotations, ok, _ := unstructured.NestedMap(inputs, "metadata", "annotations"); ok && len(annotations) == 0 {
		unstructured.RemoveNestedField(inputs, "metadata", "annotations")
	}
	return inputs
}

// dropServerMetadata removes the metadata that only the API server may write; sent back, it would be refused.
func dropServerMetadata(obj map[string]any) {
	for _, field := range []string{
		"creationTimestamp", "deletionGracePeriodSeconds", "deletionTimestamp", "generation", "managedFields",
		"resourceVersion", "selfLink", "uid",
	} {
		if metadata, ok := obj["metadata"].(map[string]any); ok {
			delete(metadata, field)
		}
	}
}

// Tidy copies a live object without what has no place in a state file: the field ownership records, which are bulky,
// and kubectl's copy of the manifest, which repeats a Secret's data in clear.
func Tidy(live *unstructured.Unstructured) *unstructured.Unstructured {
	tidy := live.DeepCopy()
	unstructured.RemoveNestedField(tidy.Object, "metadata", "managedFields")
	unstructured.RemoveNestedField(tidy.Object, "metadata", "annotations", lastApplied)
	return tidy
}
