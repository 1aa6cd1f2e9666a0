package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/client-go/util/csaupgrade"
)

// Apply says how an object is to be applied.
type Apply struct {
	Manager string // whose fields these are
	Force   bool   // take fields away from other managers
	DryRun  bool   // ask what would happen, change nothing
}

// ConflictError says that somebody else owns fields that the program wants to set.
type ConflictError struct {
	Managers []string
	Fields   []string
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("other managers own fields that this resource sets: %s.\n"+
		"Either leave the fields out of the program (or list them under ignoreChanges), or take them over with the "+
		"annotation pulumi.com/patchForce: \"true\"", strings.Join(e.Fields, "; "))
}

// Apply sends an object by server-side apply: fields that this manager set before and no longer sets are removed.
func (c *Cluster) Apply(
	ctx context.Context, obj *unstructured.Unstructured, how Apply,
) (*unstructured.Unstructured, error) {
	client, err := c.Resource(obj)
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(obj.Object)
	if err != nil {
		return nil, err
	}
	options := metav1.PatchOptions{
		FieldManager: how.Manager, Force: &how.Force, FieldValidation: metav1.FieldValidationWarn,
	}
	if how.DryRun {
		options.DryRun = []string{metav1.DryRunAll}
	}
	applied, err := client.Patch(ctx, obj.GetName(), types.ApplyPatchType, body, options)
	return applied, explainConflict(err)
}

// explainConflict turns the server's conflict into one that names managers and fields.
func explainConflict(err error) error {
	status, ok := err.(apierrors.APIStatus)
	if !ok || !apierrors.IsConflict(err) || status.Status().Details == nil {
		return err
	}
	conflict := &ConflictError{}
	for _, cause := range status.Status().Details.Causes {
		if cause.Type != metav1.CauseTypeFieldManagerConflict {
			continue
		}
		manager := strings.TrimPrefix(cause.Message, "conflict with ")
		if parts := strings.Split(cause.Message, `"`); len(parts) > 1 {
			manager = parts[1]
		}
		conflict.Managers = append(conflict.Managers, manager)
		conflict.Fields = append(conflict.Fields, fmt.Sprintf("%s (%s)", strings.TrimPrefix(cause.Field, "."), manager))
	}
	if len(conflict.Fields) == 0 {
		return err // a conflict of another kind, such as a resource version
	}
	return conflict
}

// ClientSideManagers are those that wrote fields before this object was managed by server-side apply.
func ClientSideManagers(live *unstructured.Unstructured) sets.Set[string] {
	managers := sets.New[string]()
	for _, entry := range live.GetManagedFields() {
		ours := strings.HasPrefix(entry.Manager, "kubectl") || strings.HasPrefix(entry.Manager, "pulumi-") ||
			entry.Manager == "before-first-apply"
		if ours && entry.Operation == metav1.ManagedFieldsOperationUpdate && entry.Subresource == "" {
			managers.Insert(entry.Manager)
		}
	}
	return managers
}

// TakeOver hands the fields of client-side managers (kubectl apply, an older provider) to this manager. Without it, a
// field removed from the program would stay, still owned by a tool that will never write it again.
func (c *Cluster) TakeOver(ctx context.Context, live *unstructured.Unstructured, manager string) error {
	managers := ClientSideManagers(live)
	if managers.Len() == 0 {
		return nil
	}
	patch, err := csaupgrade.UpgradeManagedFieldsPatch(live, managers, manager)
	if err != nil || patch == nil {
		return err
	}
	client, err := c.Resource(live)
	if err != nil {
		return err
	}
	_, err = client.Patch(ctx, live.GetName(), types.JSONPatchType, patch, metav1.PatchOptions{FieldManager: manager})
	return err
}

// Relinquish gives up every field that a manager owns, leaving the object itself alone.
func (c *Cluster) Relinquish(ctx context.Context, obj *unstructured.Unstructured, manager string) error {
	nothing := &unstructured.Unstructured{}
	nothing.SetAPIVersion(obj.GetAPIVersion())
	nothing.SetKind(obj.GetKind())
	nothing.SetName(obj.GetName())
	nothing.SetNamespace(obj.GetNamespace())
	_, err := c.Apply(ctx, nothing, Apply{Manager: manager, Force: true})
	return err
}
