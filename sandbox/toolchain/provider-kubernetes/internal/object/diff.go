package object

import (
	"reflect"
	"sort"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
)

// ChangeKind says what happened to a property.
type ChangeKind int

// The three things that can happen to a property.
const (
	Added ChangeKind = iota
	Deleted
	Updated
)

// Change is one property that differs between the old and the new inputs.
type Change struct {
	Path     resource.PropertyPath
	Kind     ChangeKind
	Old, New any
	Replaces bool
}

// missing stands for a value that is not there, which is not the same as one that is null.
type missing struct{}

// Compare lists the differences between two sets of inputs that mean something to Kubernetes.
func Compare(oldInputs, newInputs map[string]any) []Change {
	var changes []Change
	compare(nil, oldInputs, newInputs, &changes)
	if len(changes) == 0 {
		return nil
	}
	oldNormal, newNormal := normalize(oldInputs), normalize(newInputs)
	kept := changes[:0]
	for _, change := range changes {
		if HasUnknowns(change.New) || !sameAt(oldNormal, newNormal, stored(change.Path)) {
			kept = append(kept, change)
		}
	}
	if len(kept) > 0 && !HasUnknowns(newInputs) && equal(oldNormal, newNormal) {
		return nil
	}
	return kept
}

// stored is where the API server keeps what is written at this path: a Secret's stringData is merged into its data.
func stored(path resource.PropertyPath) resource.PropertyPath {
	if len(path) > 0 && path[0] == "stringData" {
		return append(resource.PropertyPath{"data"}, path[1:]...)
	}
	return path
}

func compare(path resource.PropertyPath, oldValue, newValue any, changes *[]Change) {
	oldMap, oldIsMap := oldValue.(map[string]any)
	newMap, newIsMap := newValue.(map[string]any)
	oldList, oldIsList := oldValue.([]any)
	newList, newIsList := newValue.([]any)
	record := func(kind ChangeKind) {
		*changes = append(*changes, Change{Path: path, Kind: kind, Old: oldValue, New: newValue})
	}
	switch {
	case oldValue == missing{} && newValue == missing{}:
	case oldValue == missing{}:
		record(Added)
	case newValue == missing{}:
		record(Deleted)
	case oldIsMap && newIsMap:
		keys := map[string]bool{}
		for key := range oldMap {
			keys[key] = true
		}
		for key := range newMap {
			keys[key] = true
		}
		ordered := make([]string, 0, len(keys))
		for key := range keys {
			ordered = append(ordered, key)
		}
		sort.Strings(ordered)
		for _, key := range ordered {
			compare(child(path, key), at(oldMap, key), at(newMap, key), changes)
		}
	case oldIsList && newIsList:
		for i := range max(len(oldList), len(newList)) {
			compare(child(path, i), at(oldList, i), at(newList, i), changes)
		}
	case !equal(oldValue, newValue):
		record(Updated)
	}
}

func child(path resource.PropertyPath, element any) resource.PropertyPath {
	extended := make(resource.PropertyPath, len(path), len(path)+1)
	copy(extended, path)
	return append(extended, element)
}

func at(container, element any) any {
	switch container := container.(type) {
	case map[string]any:
		if key, ok := element.(string); ok {
			if value, ok := container[key]; ok && value != nil {
				return value
			}
		}
	case []any:
		if i, ok := element.(int); ok && i < len(container) {
			return container[i]
		}
	}
	return missing{}
}

func lookup(value any, path resource.PropertyPath) any {
	for _, element := range path {
		if value = at(value, element); value == (missing{}) {
			return value
		}
	}
	return value
}

func sameAt(a, b map[string]any, path resource.PropertyPath) bool {
	return equal(lookup(a, path), lookup(b, path))
}

// equal compares values whose numbers may be of different Go types: the engine sends floats, the API server integers.
func equal(a, b any) bool {
	switch a := a.(type) {
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for key, value := range a {
			other, ok := b[key]
			if !ok || !equal(value, other) {
				return false
			}
		}
		return true
	case []any:
		b, ok := b.([]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for i := range a {
			if !equal(a[i], b[i]) {
				return false
			}
		}
		return true
	case resource.Computed, resource.Output:
		return false // what is not known yet may always turn out different
	}
	if an, ok := number(a); ok {
		bn, ok := number(b)
		return ok && an == bn
	}
	return reflect.DeepEqual(a, b)
}

func number(v any) (float64, bool) {
	switch v := v.(type) {
	case float64:
		return v, true
	case int64:
		return float64(v), true
	case int:
		return float64(v), true
	}
	return 0, false
}

// fields is a path as Kubernetes writes it in field lists, without list indexes: spec.template.spec.containers.image.
func fields(path resource.PropertyPath) []string {
	var names []string
	for _, element := range path {
		if name, ok := element.(string); ok {
			names = append(names, name)
		}
	}
	return names
}

// Touches reports whether the change lies within the field, or brings in or takes away something that contains it.
func (c Change) Touches(field string) bool {
	changed, pattern := fields(c.Path), strings.Split(field, ".")
	for i := range min(len(changed), len(pattern)) {
		if changed[i] != pattern[i] {
			return false
		}
	}
	if len(changed) >= len(pattern) {
		return true
	}
	rest := pattern[len(changed):]
	return contains(c.Old, rest) || contains(c.New, rest)
}

func contains(value any, names []string) bool {
	if len(names) == 0 {
		return value != missing{} && value != nil
	}
	switch value := value.(type) {
	case map[string]any:
		return contains(at(value, names[0]), names[1:])
	case []any:
		for _, element := range value {
			if contains(element, names) {
				return true
			}
		}
	}
	return false
}
