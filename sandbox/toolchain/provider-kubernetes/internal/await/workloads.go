package await

import (
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// deploymentSince makes the check for a Deployment that has just been applied. It is ready when the rollout is complete:
// all replicas of the new version available, none of the old left.
func deploymentSince(applied *unstructured.Unstructured) check {
	// The controller leaves the verdict on the version before in place until the new one has made its first step. Seen
	// after a failed release, it would fail the rollback that is about to succeed.
	observed, _, _ := unstructured.NestedInt64(applied.Object, "status", "observedGeneration")
	outdated := conditionOf(applied, "Progressing")
	isOutdated := func(progress condition) bool { return observed < applied.GetGeneration() && progress == outdated }

	return func(live *unstructured.Unstructured, around source) verdict {
		if paused, _, _ := unstructured.NestedBool(live.Object, "spec", "paused"); paused {
			return verdict{ready: true} // nothing will move until somebody resumes it
		}
		result := generic(live, around)
		// kstatus says how far a rollout has come; why it does not move stands in the conditions.
		progress := conditionOf(live, "Progressing")
		if result.failed && isOutdated(progress) {
			return verdict{message: "waiting for the rollout to begin"}
		}
		if result.failed && progress.message != "" {
			result.message += ": " + progress.message
		}
		if refused := conditionOf(live, "ReplicaFailure"); !result.ready && refused.status == "True" {
			result.message += "; pods cannot be created: " + refused.message
		}
		return result
	}
}

func replicationController(live *unstructured.Unstructured, _ source) verdict {
	wanted, ok, _ := unstructured.NestedInt64(live.Object, "spec", "replicas")
	if !ok {
		wanted = 1
	}
	observed, _, _ := unstructured.NestedInt64(live.Object, "status", "observedGeneration")
	ready, _, _ := unstructured.NestedInt64(live.Object, "status", "readyReplicas")
	return verdict{
		ready:   observed >= live.GetGeneration() && ready == wanted,
		message: fmt.Sprintf("Ready: %d/%d", ready, wanted),
	}
}

// job is ready when it has done its work, unlike for kstatus, which is content once it has started.
func job(live *unstructured.Unstructured, _ source) verdict {
	if suspended, _, _ := unstructured.NestedBool(live.Object, "spec", "suspend"); suspended {
		return verdict{ready: true}
	}
	for _, kind := range []string{"Failed", "FailureTarget"} {
		if condition := conditionOf(live, kind); condition.status == "True" {
			return verdict{failed: true, message: condition.text()}
		}
	}
	if conditionOf(live, "Complete").status == "True" {
		return verdict{ready: true}
	}
	active, _, _ := unstructured.NestedInt64(live.Object, "status", "active")
	succeeded, _, _ := unstructured.NestedInt64(live.Object, "status", "succeeded")
	failed, _, _ := unstructured.NestedInt64(live.Object, "status", "failed")
	return verdict{message: fmt.Sprintf(
		"Job in progress: %d pods active, %d succeeded, %d failed", active, succeeded, failed)}
}

type condition struct{ status, reason, message, updated string }

func (c condition) text() string {
	if c.message == "" {
		return c.reason
	}
	return c.reason + ": " + c.message
}

func conditionOf(live *unstructured.Unstructured, kind string) condition {
	conditions, _, _ := unstructured.NestedSlice(live.Object, "status", "conditions")
	for _, entry := range conditions {
		if fields, ok := entry.(map[string]any); ok && fields["type"] == kind {
			text := func(key string) string { s, _ := fields[key].(string); return s }
			return condition{
				status: text("status"), reason: text("reason"), message: text("message"), updated: text("lastUpdateTime"),
			}
		}
	}
	return condition{}
}
