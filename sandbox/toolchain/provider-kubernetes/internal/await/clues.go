package await

import (
	"context"
	"fmt"
	"sort"
	"strings"
	"sync"
	"time"

	"runbook/sandbox/toolchain/provider-kubernetes/internal/kube"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
)

const (
	logLines     = 15
	eventLines   = 3
	clueDeadline = 15 * time.Second // gathering clues must not turn a failure into another wait
)

// clues says, after a failure, what a person would look for next: the pod that fails, how, its last words, and the
// warnings that controllers left.
func clues(parent context.Context, cluster *kube.Cluster, live *unstructured.Unstructured, logs *logKeeper) []string {
	ctx, cancel := context.WithTimeout(parent, clueDeadline)
	defer cancel()
	q, runsPods := podsOf(live)
	if !runsPods {
		return warnings(ctx, cluster, live.GetNamespace(), live.GetUID())
	}
	found, _ := snapshot{ctx, cluster}.list(q)
	pod := suspect(toPods(found))
	if pod == nil {
		// Either no pod could be made, and the owner's events say why, or the job controller has removed it already.
		return append(logs.last(ctx), warnings(ctx, cluster, live.GetNamespace(), live.GetUID())...)
	}
	var told []string
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodScheduled && condition.Status == corev1.ConditionFalse {
			told = append(told, fmt.Sprintf("pod %s cannot be scheduled: %s", pod.Name, condition.Message))
		}
	}
	for i, complaint := range complaints(pod) {
		told = append(told, fmt.Sprintf("pod %s: %s", pod.Name, complaint.text))
		if i == 0 && complaint.exited {
			told = append(told, readLog(ctx, cluster, pod, complaint)...)
		}
	}
	if len(told) == 0 {
		told = append(told, fmt.Sprintf("pod %s is %s", pod.Name, pod.Status.Phase))
	}
	return append(told, warnings(ctx, cluster, pod.Namespace, pod.UID, live.GetUID())...)
}

// readLog fetches the last lines a container wrote.
func readLog(ctx context.Context, cluster *kube.Cluster, pod *corev1.Pod, of complaint) []string {
	lines := int64(logLines)
	stream, err := cluster.Client.CoreV1().Pods(pod.Namespace).GetLogs(pod.Name, &corev1.PodLogOptions{
		Container: of.container, Previous: of.previous, TailLines: &lines,
	}).DoRaw(ctx)
	if err != nil {
		return []string{fmt.Sprintf("its log could not be read: %v", err)}
	}
	text := strings.TrimRight(string(stream), "\n ")
	if text == "" {
		return []string{"its log is empty"}
	}
	told := []string{fmt.Sprintf("last lines of its log (%s):", of.container)}
	for _, line := range strings.Split(text, "\n") {
		told = append(told, "  | "+line)
	}
	return told
}

// warnings lists the latest warning events about these objects.
func warnings(ctx context.Context, cluster *kube.Cluster, namespace string, uids ...types.UID) []string {
	var events []corev1.Event
	for _, uid := range uids {
		list, err := cluster.Client.CoreV1().Events(namespace).List(ctx, metav1.ListOptions{
			FieldSelector: fields.Set{"involvedObject.uid": string(uid), "type": corev1.EventTypeWarning}.String(),
		})
		if err == nil {
			events = append(events, list.Items...)
		}
	}
	sort.SliceStable(events, func(i, j int) bool { return eventTime(events[i]).After(eventTime(events[j])) })
	var told []string
	for _, event := range events {
		if len(told) < eventLines {
			told = append(told, fmt.Sprintf("%s: %s", event.Reason, event.Message))
		}
	}
	return told
}

func eventTime(event corev1.Event) time.Time {
	if !event.LastTimestamp.IsZero() {
		return event.LastTimestamp.Time
	}
	return event.EventTime.Time
}

// logKeeper reads the log of a Job's pod as soon as the pod fails: once a Job gives up, its controller deletes pods that
// were to be restarted, and their last words with them.
type logKeeper struct {
	ctx     context.Context
	cluster *kube.Cluster
	pending sync.WaitGroup

	mu     sync.Mutex
	read   map[string]bool
	latest []string
}

func newLogKeeper(ctx context.Context, cluster *kube.Cluster) *logKeeper {
	return &logKeeper{ctx: ctx, cluster: cluster, read: map[string]bool{}}
}

func (k *logKeeper) watchPods(live *unstructured.Unstructured, around source) {
	q, runsPods := podsOf(live)
	if !runsPods || live.GetKind() != "Job" {
		return
	}
	found, _ := around.list(q)
	for _, pod := range toPods(found) {
		for _, one := range complaints(pod) {
			key := fmt.Sprintf("%s/%s/%s", pod.UID, one.container, one.text)
			k.mu.Lock()
			known := k.read[key]
			k.read[key] = true
			k.mu.Unlock()
			if known || !one.exited {
				continue
			}
			k.pending.Add(1)
			go func() {
				defer k.pending.Done()
				told := append([]string{fmt.Sprintf("pod %s: %s", pod.Name, one.text)},
					readLog(k.ctx, k.cluster, pod, one)...)
				k.mu.Lock()
				k.latest = told
				k.mu.Unlock()
			}()
		}
	}
}

// last returns what was kept, once the reads that are under way have ended.
func (k *logKeeper) last(ctx context.Context) []string {
	done := make(chan struct{})
	go func() { k.pending.Wait(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.latest
}
