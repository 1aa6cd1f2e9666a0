package await

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"runbook/sandbox/toolchain/provider-kubernetes/internal/kube"
	"runbook/sandbox/toolchain/provider-kubernetes/internal/object"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
)

// verdict is what a look at an object and its surroundings says.
type verdict struct {
	ready   bool
	failed  bool   // it will not become ready any more
	message string // what it is waiting for, or why it failed
}

// check judges an object; it may be called any number of times and keeps no state.
type check func(live *unstructured.Unstructured, around source) verdict

// Wait describes what is waited for.
type Wait struct {
	Cluster  *kube.Cluster
	Inputs   *unstructured.Unstructured // what the program said; its annotations count
	Timeout  time.Duration
	Progress func(message string)
}

// NotReadyError says why an object that exists is not ready, with everything a person needs to find the cause.
type NotReadyError struct {
	Object *unstructured.Unstructured // as last seen
	Reason string
	Clues  []string
}

func (e *NotReadyError) Error() string {
	return object.Describe(e.Object) + " " + e.Reason
}

// Ready waits until an applied object is ready and returns it as it is then.
func (w Wait) Ready(parent context.Context, applied *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	judge, err := checkFor(w.Inputs, applied)
	if err != nil {
		return applied, &NotReadyError{Object: applied, Reason: "cannot be waited for: " + err.Error()}
	}
	if judge == nil {
		return applied, nil
	}
	gvr, err := w.Cluster.GVR(applied)
	if err != nil {
		return applied, err
	}
	ctx, cancel := context.WithTimeout(parent, w.Timeout)
	defer cancel()

	// Related objects are watched from the first look on; the object itself only if that look was not enough.
	around := newBoard(ctx, w.Cluster)
	logs := newLogKeeper(ctx, w.Cluster)
	live, seen, told := applied, false, ""
	self := byName(gvr, applied.GetNamespace(), applied.GetName())
	for {
		result := judge(live, around)
		switch {
		case result.failed:
			return live, w.notReady(parent, live, logs, "failed: "+result.message)
		case result.ready:
			w.doneWith(told)
			return live, nil
		case result.message != told:
			told = result.message
			w.Progress(told)
		}
		logs.watchPods(live, around)
		around.list(self) // a check that looks at nothing around it would otherwise wait for news nobody listens to

		select {
		case <-around.changed:
		case <-ctx.Done():
			return live, w.interrupted(parent, live, logs, told, around.lastTrouble())
		}
		switch current, known := around.list(self); {
		case known && len(current) == 1 && !older(current[0], applied):
			live, seen = current[0], true
		case known && len(current) == 0 && seen:
			return live, w.notReady(parent, live, logs, "was deleted while it was waited for")
		}
	}
}

// Now judges an object as it is, for a refresh: no waiting, and no clues to gather.
func Now(ctx context.Context, cluster *kube.Cluster, inputs, live *unstructured.Unstructured) error {
	judge, err := checkFor(inputs, live)
	if err != nil || judge == nil {
		return err
	}
	result := judge(live, snapshot{ctx, cluster})
	if result.ready {
		return nil
	}
	return &NotReadyError{Object: live, Reason: "is not ready: " + result.message}
}

// doneWith takes the last progress message away again: what was waited for is there.
func (w Wait) doneWith(told string) {
	if told != "" {
		w.Progress("")
	}
}

func (w Wait) interrupted(
	parent context.Context, live *unstructured.Unstructured, logs *logKeeper, told string, trouble error,
) error {
	if parent.Err() != nil {
		return &NotReadyError{Object: live, Reason: "was not waited for any longer, the operation was cancelled: " + told}
	}
	reason := fmt.Sprintf("did not become ready within %s: %s", w.Timeout, told)
	if trouble != nil {
		reason += fmt.Sprintf(" (watching it had trouble: %v)", trouble)
	}
	return w.notReady(parent, live, logs, reason)
}

func (w Wait) notReady(
	ctx context.Context, live *unstructured.Unstructured, logs *logKeeper, reason string,
) error {
	found := clues(ctx, w.Cluster, live, logs)
	found = slices.DeleteFunc(found, func(clue string) bool { return strings.Contains(reason, clue) })
	return &NotReadyError{Object: live, Reason: reason, Clues: found}
}

// checkFor picks the check for an object; nil if it is ready as soon as it exists.
func checkFor(inputs, live *unstructured.Unstructured) (check, error) {
	if object.IsTrue(inputs, object.SkipAwait) {
		return nil, nil
	}
	if expressions := object.Annotation(inputs, object.WaitFor); expressions != "" {
		return custom(expressions)
	}
	switch live.GroupVersionKind().GroupKind().String() {
	case "Deployment.apps":
		return deploymentSince(live), nil
	case "StatefulSet.apps", "DaemonSet.apps", "Pod":
		return generic, nil
	case "ReplicationController":
		return replicationController, nil
	case "Job.batch":
		return job, nil
	case "Service":
		return service, nil
	case "Ingress.networking.k8s.io":
		return ingress, nil
	case "PersistentVolumeClaim":
		return claim, nil
	case "PersistentVolume":
		return volume, nil
	case "ResourceQuota":
		return quota, nil
	case "Secret":
		return tokenSecret, nil
	case "CustomResourceDefinition.apiextensions.k8s.io":
		return generic, nil
	}
	if os.Getenv("PULUMI_K8S_AWAIT_ALL") == "true" {
		return generic, nil
	}
	return nil, nil
}

// generic is kstatus' judgement.
func generic(live *unstructured.Unstructured, _ source) verdict {
	result, err := status.Compute(live)
	if err != nil {
		return verdict{message: err.Error()}
	}
	return verdict{
		ready:   result.Status == status.CurrentStatus,
		failed:  result.Status == status.FailedStatus,
		message: result.Message,
	}
}

// IsNotReady unwraps the error of an object that exists but is not ready.
func IsNotReady(err error) (*NotReadyError, bool) {
	var notReady *NotReadyError
	ok := errors.As(err, &notReady)
	return notReady, ok
}
