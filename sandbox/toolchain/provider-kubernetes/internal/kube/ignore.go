package kube

import (
	"bytes"
	"fmt"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

// LeaveAlone makes ignoreChanges mean what it says under server-side apply. A field that another manager owns (replicas
// under an autoscaler) is left out of the request, since sending it would claim it; a field that is ours is sent as it
// is live, since leaving it out would remove it.
func LeaveAlone(inputs, live *unstructured.Unstructured, manager string, ignored []string) error {
	if len(ignored) == 0 {
		return nil
	}
	ours, theirs := &fieldpath.Set{}, &fieldpath.Set{}
	for _, entry := range live.GetManagedFields() {
		if entry.FieldsV1 == nil {
			continue
		}
		owned := &fieldpath.Set{}
		if err := owned.FromJSON(bytes.NewReader(entry.FieldsV1.Raw)); err != nil {
			return fmt.Errorf("the object's field ownership cannot be read: %w", err)
		}
		if entry.Manager == manager {
			ours = ours.Union(owned)
		} else {
			theirs = theirs.Union(owned)
		}
	}
	for _, text := range ignored {
		names, ok := fieldNames(text)
		if !ok {
			continue // fields inside lists stay as the engine sends them: with their old values
		}
		path := fieldpath.Path{}
		for _, name := range names {
			path = append(path, fieldpath.PathElement{FieldName: &name})
		}
		if theirs.Has(path) && !ours.Has(path) {
			unstructured.RemoveNestedField(inputs.Object, names...)
			continue
		}
		if current, found, err := unstructured.NestedFieldCopy(live.Object, names...); found && err == nil {
			if err := unstructured.SetNestedField(inputs.Object, current, names...); err != nil {
				return fmt.Errorf("ignoreChanges %q: %w", text, err)
			}
		}
	}
	return nil
}

func fieldNames(text string) ([]string, bool) {
	path, err := resource.ParsePropertyPath(text)
	if err != nil {
		return nil, false
	}
	var names []string
	for _, element := range path {
		name, ok := element.(string)
		if !ok {
			return nil, false
		}
		names = append(names, name)
	}
	return names, len(names) > 0
}
