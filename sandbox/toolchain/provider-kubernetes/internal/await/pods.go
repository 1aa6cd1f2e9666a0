package await

import (
	"fmt"
	"sort"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
)

var pods = corev1.SchemeGroupVersion.WithResource("pods")

// podsOf selects the pods that an object runs; false if it runs none.
func podsOf(live *unstructured.Unstructured) (query, bool) {
	q := query{resource: pods, namespace: live.GetNamespace()}
	switch live.GetKind() {
	case "Pod":
		return byName(pods, live.GetNamespace(), live.GetName()), true
	case "ReplicationController":
		selector, _, _ := unstructured.NestedStringMap(live.Object, "spec", "selector")
		q.labels = labels.SelectorFromSet(selector).String()
	case "Deployment", "StatefulSet", "DaemonSet", "Job":
		fields, _, _ := unstructured.NestedMap(live.Object, "spec", "selector")
		var selector metav1.LabelSelector
		if runtime.DefaultUnstructuredConverter.FromUnstructured(fields, &selector) != nil {
			return q, false
		}
		parsed, err := metav1.LabelSelectorAsSelector(&selector)
		if err != nil {
			return q, false
		}
		q.labels = parsed.String()
	}
	return q, q.labels != "" // without a selector every pod of the namespace would be meant
}

func toPods(objects []*unstructured.Unstructured) []*corev1.Pod {
	var typed []*corev1.Pod
	for _, object := range objects {
		pod := &corev1.Pod{}
		if runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, pod) == nil {
			typed = append(typed, pod)
		}
	}
	return typed
}

// suspect picks the pod most likely to explain why its owner is not ready: the newest one that is not well itself.
func suspect(candidates []*corev1.Pod) *corev1.Pod {
	var unwell []*corev1.Pod
	for _, pod := range candidates {
		if !isWell(pod) {
			unwell = append(unwell, pod)
		}
	}
	if len(unwell) == 0 {
		return nil
	}
	sort.SliceStable(unwell, func(i, j int) bool {
		return unwell[j].CreationTimestamp.Before(&unwell[i].CreationTimestamp)
	})
	return unwell[0]
}

func isWell(pod *corev1.Pod) bool {
	if pod.Status.Phase == corev1.PodSucceeded {
		return true
	}
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodReady {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return false
}

// complaint is what is wrong with one container of a pod.
type complaint struct {
	container string
	text      string
	exited    bool // it has run, so there may be a log
	previous  bool // the log to read is that of the run before
}

// complaints lists what is wrong with the containers of a pod, the telling ones first.
func complaints(pod *corev1.Pod) []complaint {
	var exits, others []complaint
	// Main containers first: when one of them has failed, its sidecars were ended for it and have nothing to tell.
	statuses := append(append([]corev1.ContainerStatus{}, pod.Status.ContainerStatuses...),
		pod.Status.InitContainerStatuses...)
	for _, status := range statuses {
		state, last := status.State, status.LastTerminationState.Terminated
		switch {
		case state.Terminated != nil && state.Terminated.ExitCode != 0:
			exits = append(exits, complaint{container: status.Name, exited: true, text: exitText(status.Name, state.Terminated)})
		case state.Waiting != nil && last != nil:
			text := exitText(status.Name, last)
			text += fmt.Sprintf(", restarted %d times, now %s", status.RestartCount, state.Waiting.Reason)
			exits = append(exits, complaint{container: status.Name, exited: true, previous: true, text: text})
		case state.Running != nil && last != nil && last.ExitCode != 0 && pod.Spec.RestartPolicy == corev1.RestartPolicyOnFailure:
			// A Job that counts restarts has failed already, or soon will: the words of the run before tell why.
			text := exitText(status.Name, last) + " and was restarted"
			exits = append(exits, complaint{container: status.Name, exited: true, previous: true, text: text})
		case state.Waiting != nil && !isNormalWaiting(state.Waiting.Reason):
			text := fmt.Sprintf("container %s is waiting: %s", status.Name, state.Waiting.Reason)
			if state.Waiting.Message != "" {
				text += ": " + state.Waiting.Message
			}
			others = append(others, complaint{container: status.Name, text: text})
		case state.Running != nil && !status.Ready && !isInit(pod, status.Name):
			text := fmt.Sprintf("container %s runs but is not ready", status.Name)
			if last != nil {
				text += fmt.Sprintf("; before that it %s", exitText("", last))
			}
			others = append(others, complaint{container: status.Name, exited: true, text: text})
		}
	}
	return append(exits, others...)
}

func exitText(container string, terminated *corev1.ContainerStateTerminated) string {
	text := fmt.Sprintf("exited with code %d", terminated.ExitCode)
	if container != "" {
		text = "container " + container + " " + text
	}
	if terminated.Reason != "" && terminated.Reason != "Error" {
		text += " (" + terminated.Reason + ")"
	}
	return text
}

func isNormalWaiting(reason string) bool {
	return reason == "ContainerCreating" || reason == "PodInitializing"
}

func isInit(pod *corev1.Pod, container string) bool {
	for _, status := range pod.Status.InitContainerStatuses {
		if status.Name == container {
			return true
		}
	}
	return false
}
