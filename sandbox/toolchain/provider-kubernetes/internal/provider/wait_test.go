package provider

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

const failing = `{"metadata":{"name":"migrate","namespace":"NAMESPACE"},"spec":{"backoffLimit":0,"template":{"spec":{
	"restartPolicy":"Never","containers":[{"name":"app","image":"job:1"}]}}}}`

// waiting is a Deployment that is waited for.
var waiting = strings.Replace(web, `,"annotations":{"pulumi.com/skipAwait":"true"}`, "", 1)

const rolledOut = `{"status":{"observedGeneration":%d,"replicas":2,"updatedReplicas":2,"readyReplicas":2,
	"availableReplicas":2,"conditions":[{"type":"Available","status":"True"},
	{"type":"Progressing","status":"True","reason":"NewReplicaSetAvailable"}]}}`

// purge removes an object with its finalizers, as the garbage collector would.
func (s *stack) purge(k kept) {
	s.Helper()
	live := s.live(k)
	client, err := s.cluster.Resource(live)
	if err != nil {
		s.Fatal(err)
	}
	background := metav1.DeletePropagationBackground
	_ = client.Delete(s.Context(), live.GetName(), metav1.DeleteOptions{PropagationPolicy: &background})
	if len(live.GetFinalizers()) > 0 {
		s.patch(live.GetAPIVersion(), live.GetKind(), live.GetName(), `{"metadata":{"finalizers":null}}`)
	}
}

func TestDeploymentIsWaitedFor(t *testing.T) {
	s := newStack(t, nil)
	done := inBackground(func() (kept, error) { return s.tryCreate(deployment, "web", waiting) })
	s.said.hears(t, "Replicas: 0/2")
	s.patch("apps/v1", "Deployment", "web", fmt.Sprintf(rolledOut, 1), "status")
	result := soon(t, done)
	if result.err != nil {
		t.Fatal(result.err)
	}
	status := s.decode(result.value.outputs)["status"].ObjectValue()
	if status["availableReplicas"].NumberValue() != 2 {
		t.Errorf("the outputs must be those of the ready object: %v", status)
	}

	// An update must not be taken in by the status of the version before.
	changed := strings.Replace(waiting, "web:1", "web:2", 1)
	done = inBackground(func() (kept, error) { return s.tryUpdate(result.value, changed) })
	s.said.hears(t, "Deployment generation is 2")
	s.patch("apps/v1", "Deployment", "web", fmt.Sprintf(rolledOut, 2), "status")
	if updated := soon(t, done); updated.err != nil {
		t.Fatal(updated.err)
	}
}

func TestStuckRolloutFails(t *testing.T) {
	s := newStack(t, nil)
	done := inBackground(func() (kept, error) { return s.tryCreate(deployment, "web", waiting) })
	s.said.hears(t, "Replicas: 0/2")
	s.pod("web-1", map[string]string{"app": "web"}, corev1.PodStatus{Phase: corev1.PodPending,
		ContainerStatuses: []corev1.ContainerStatus{{Name: "app", State: corev1.ContainerState{
			Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff", Message: "no such image"}}}}})
	s.patch("apps/v1", "Deployment", "web", `{"status":{"observedGeneration":1,"conditions":[
		{"type":"Progressing","status":"False","reason":"ProgressDeadlineExceeded","message":"too slow"}]}}`, "status")
	result := soon(t, done)
	expect(t, result.err, "Deployment "+s.namespace+"/web failed", "pod web-1", "ImagePullBackOff: no such image")
	if details := initFailed(result.err); details.GetId() != s.namespace+"/web" || details.GetProperties() == nil {
		t.Errorf("the state must keep the object: %v", details)
	}

	// The rollback must not be taken in by the verdict on the version before, which is still there.
	done = inBackground(func() (kept, error) {
		return s.tryUpdate(result.value, strings.Replace(waiting, "web:1", "web:0", 1))
	})
	s.said.hears(t, "latest observed generation is 1")
	s.patch("apps/v1", "Deployment", "web", `{"status":{"observedGeneration":2}}`, "status")
	s.said.hears(t, "waiting for the rollout to begin")
	s.patch("apps/v1", "Deployment", "web", fmt.Sprintf(rolledOut, 2), "status")
	if rolledBack := soon(t, done); rolledBack.err != nil {
		t.Error(rolledBack.err)
	}
}

func expect(t *testing.T, err error, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%q is missing in: %v", text, err)
		}
	}
}

// pod makes a pod as its controller and kubelet would.
func (s *stack) pod(name string, labels map[string]string, status corev1.PodStatus) {
	s.Helper()
	pods := s.cluster.Client.CoreV1().Pods(s.namespace)
	pod, err := pods.Create(s.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels},
		Spec:       corev1.PodSpec{NodeName: "node-" + s.namespace, Containers: []corev1.Container{{Name: "app", Image: "x"}}},
	}, metav1.CreateOptions{})
	if err != nil {
		s.Fatal(err)
	}
	pod.Status = status
	if _, err = pods.UpdateStatus(s.Context(), pod, metav1.UpdateOptions{}); err != nil {
		s.Fatal(err)
	}
}

// kubelet is a node that has nothing but logs.
func (s *stack) kubelet(log string) {
	s.Helper()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/containerLogs/"+s.namespace+"/") && r.URL.Query().Get("tailLines") != "" {
			_, _ = w.Write([]byte(log))
		}
	}))
	s.Cleanup(server.Close)
	address, err := url.Parse(server.URL)
	if err != nil {
		s.Fatal(err)
	}
	var port int32
	if _, err := fmt.Sscan(address.Port(), &port); err != nil {
		s.Fatal(err)
	}
	nodes := s.cluster.Client.CoreV1().Nodes()
	node, err := nodes.Create(s.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-" + s.namespace}},
		metav1.CreateOptions{})
	if err != nil {
		s.Fatal(err)
	}
	node.Status = corev1.NodeStatus{
		Addresses:       []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "127.0.0.1"}},
		DaemonEndpoints: corev1.NodeDaemonEndpoints{KubeletEndpoint: corev1.DaemonEndpoint{Port: port}},
	}
	if _, err := nodes.UpdateStatus(s.Context(), node, metav1.UpdateOptions{}); err != nil {
		s.Fatal(err)
	}
}

func exited(code int32) corev1.PodStatus {
	return corev1.PodStatus{Phase: corev1.PodFailed, ContainerStatuses: []corev1.ContainerStatus{{
		Name: "app", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code}},
	}}}
}

// failJob sets the status that the job controller sets; the server insists on its exact form.
func (s *stack) failJob(name string) {
	s.Helper()
	s.patch("batch/v1", "Job", name, `{"status":{"failed":1,"startTime":"2026-01-01T00:00:00Z",
		"uncountedTerminatedPods":{},"conditions":[
		{"type":"FailureTarget","status":"True","reason":"BackoffLimitExceeded","message":"Job has reached the backoff limit",
			"lastTransitionTime":"2026-01-01T00:00:01Z"},
		{"type":"Failed","status":"True","reason":"BackoffLimitExceeded","message":"Job has reached the backoff limit",
			"lastTransitionTime":"2026-01-01T00:00:01Z"}]}}`, "status")
}

func TestFailedJobTellsWhy(t *testing.T) {
	s := newStack(t, nil)
	s.kubelet("applying 0002_orders\ncolumn \"total\" does not exist\n")
	text := strings.Replace(failing, `"namespace":"NAMESPACE"`,
		`"namespace":"NAMESPACE","annotations":{"pulumi.com/replaceUnready":"true"}`, 1)
	done := inBackground(func() (kept, error) { return s.tryCreate(jobToken, "migrate", text) })
	s.said.hears(t, "Job in progress")
	s.pod("migrate-x", map[string]string{"batch.kubernetes.io/controller-uid": s.jobUID("migrate")}, exited(3))
	s.failJob("migrate")
	result := soon(t, done)
	expect(t, result.err, "Job "+s.namespace+"/migrate failed", "BackoffLimitExceeded",
		"pod migrate-x: container app exited with code 3", `| column "total" does not exist`)

	// The next run replaces the Job, since it says so, although nothing in the program has changed.
	response, _ := s.diff(result.value, text)
	if len(response.GetReplaces()) != 1 || !response.GetDeleteBeforeReplace() {
		t.Errorf("a failed Job must be replaced: %v", response)
	}
	// A refresh reports it as not ready, and keeps it.
	_, err := s.Read(t.Context(), &pulumirpc.ReadRequest{
		Urn: urnOf(jobToken, "migrate"), Id: result.value.id, Properties: result.value.outputs, Inputs: result.value.inputs,
	})
	expect(t, err, "is not ready", "BackoffLimitExceeded")
	if details := initFailed(err); details.GetInputs() == nil || details.GetProperties() == nil {
		t.Errorf("got %v", details)
	}
}

func (s *stack) jobUID(name string) string {
	s.Helper()
	job, err := s.cluster.Client.BatchV1().Jobs(s.namespace).Get(s.Context(), name, metav1.GetOptions{})
	if err != nil {
		s.Fatal(err)
	}
	return string(job.UID)
}

func TestLogOfAPodThatTheJobControllerRemoved(t *testing.T) {
	s := newStack(t, nil)
	s.kubelet("last words\n")
	done := inBackground(func() (kept, error) { return s.tryCreate(jobToken, "migrate", failing) })
	s.said.hears(t, "Job in progress")
	s.pod("migrate-x", map[string]string{"batch.kubernetes.io/controller-uid": s.jobUID("migrate")}, exited(1))
	// Progress is told after the pods have been looked at.
	s.patch("batch/v1", "Job", "migrate", `{"status":{"active":1}}`, "status")
	s.said.hears(t, "1 pods active")
	now := int64(0)
	if err := s.cluster.Client.CoreV1().Pods(s.namespace).Delete(t.Context(), "migrate-x",
		metav1.DeleteOptions{GracePeriodSeconds: &now}); err != nil {
		t.Fatal(err)
	}
	s.patch("batch/v1", "Job", "migrate", `{"status":{"active":0}}`, "status")
	s.failJob("migrate")
	expect(t, soon(t, done).err, "exited with code 1", "| last words")
}

func TestServiceWaitsForEndpoints(t *testing.T) {
	s := newStack(t, nil)
	done := inBackground(func() (kept, error) {
		return s.tryCreate(service, "svc", `{"metadata":{"name":"svc","namespace":"NAMESPACE"},
			"spec":{"selector":{"app":"web"},"ports":[{"port":80}]}}`)
	})
	s.said.hears(t, "targets no pods")
	_, err := s.cluster.Client.DiscoveryV1().EndpointSlices(s.namespace).Create(t.Context(), &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: "svc-1", Labels: map[string]string{discoveryv1.LabelServiceName: "svc"}},
		AddressType: discoveryv1.AddressTypeIPv4, Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"10.0.0.1"}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if result := soon(t, done); result.err != nil {
		t.Error(result.err)
	}
}

func TestTimeoutSaysWhatWasMissing(t *testing.T) {
	s := newStack(t, nil)
	s.timeout = 0
	_, err := s.tryCreate(service, "svc", `{"metadata":{"name":"svc","namespace":"NAMESPACE",
		"annotations":{"pulumi.com/timeoutSeconds":"1"}},"spec":{"selector":{"app":"web"},"ports":[{"port":80}]}}`)
	expect(t, err, "did not become ready within 1s", "targets no pods")

	props := s.checkProps(service, "two", nil, s.props(`{"metadata":{"name":"two","namespace":"NAMESPACE",
		"annotations":{"pulumi.com/timeoutSeconds":"600"}},"spec":{"selector":{"app":"web"},"ports":[{"port":80}]}}`))
	_, err = s.Create(t.Context(), &pulumirpc.CreateRequest{Urn: urnOf(service, "two"), Properties: props, Timeout: 0.5})
	expect(t, err, "did not become ready within 500ms") // customTimeouts come before the annotation
}

func TestCancelEndsAWait(t *testing.T) {
	s := newStack(t, nil)
	done := inBackground(func() (kept, error) { return s.tryCreate(deployment, "web", waiting) })
	s.said.hears(t, "Replicas: 0/2")
	began := time.Now()
	if _, err := s.Cancel(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	result := soon(t, done)
	if took := time.Since(began); took > time.Second {
		t.Errorf("it took %s", took)
	}
	expect(t, result.err, "cancelled")
	if initFailed(result.err) == nil {
		t.Error("the state must keep the object")
	}
}

func TestDeleteWaitsUntilTheObjectIsGone(t *testing.T) {
	s := newStack(t, nil)
	k := s.create(deployment, "web", web)
	s.restart(nil)
	text := strings.Replace(web, `,"annotations":{"pulumi.com/skipAwait":"true"}`, "", 1)
	k = s.updateSkippingWait(k, text)
	done := inBackground(func() (any, error) { return nil, s.delete(k) })
	s.said.hears(t, "what belongs to it to be deleted") // there is no garbage collector but this test
	select {
	case result := <-done:
		t.Fatalf("it did not wait: %v", result.err)
	default:
	}
	s.patch("apps/v1", "Deployment", "web", `{"metadata":{"finalizers":null}}`)
	if result := soon(t, done); result.err != nil {
		t.Error(result.err)
	}
	if err := s.delete(k); err != nil {
		t.Errorf("deleting what is gone is a success: %v", err)
	}
}

// updateSkippingWait gives a Deployment inputs without skipAwait, playing the deployment controller.
func (s *stack) updateSkippingWait(k kept, text string) kept {
	s.Helper()
	s.patch("apps/v1", "Deployment", "web", fmt.Sprintf(rolledOut, 2), "status") // annotations count as a generation
	return s.update(k, text)
}

func TestSameNameReplacementIsNotDeleted(t *testing.T) {
	s := newStack(t, nil)
	old := s.create(configMap, "c", `{"metadata":{"name":"c","namespace":"NAMESPACE"},"data":{"a":"1"}}`)
	s.restart(nil)
	s.create(configMap, "c", `{"metadata":{"name":"c","namespace":"NAMESPACE"},"data":{"a":"1"}}`)
	if err := s.delete(old); err != nil {
		t.Fatal(err)
	}
	s.live(old)
	s.said.hears(t, "nothing left to delete")
}

func TestCreateWaitsForItsNamespace(t *testing.T) {
	s := newStack(t, nil)
	later := s.namespace + "-later"
	text := `{"metadata":{"name":"c","namespace":"` + later + `"},"data":{"a":"1"}}`
	done := inBackground(func() (kept, error) { return s.tryCreate(configMap, "c", text) })
	s.said.hears(t, "waiting for Namespace "+later)
	s.create("kubernetes:core/v1:Namespace", later, `{"metadata":{"name":"`+later+`"}}`)
	if result := soon(t, done); result.err != nil {
		t.Error(result.err)
	}
}

func TestCustomResourceWaitsForItsDefinition(t *testing.T) {
	s := newStack(t, nil)
	group := s.namespace + ".example.com"
	token := "kubernetes:" + group + "/v1:Thing"
	thing := `{"apiVersion":"` + group + `/v1","kind":"Thing","metadata":{"name":"t","namespace":"NAMESPACE",
		"annotations":{"pulumi.com/waitFor":"jsonpath={.status.phase}=Up"}},"spec":{"size":1}}`
	done := inBackground(func() (kept, error) { return s.tryCreate(token, "t", thing) })
	s.said.hears(t, "waiting for the definition of Thing."+group)
	s.create("kubernetes:apiextensions.k8s.io/v1:CustomResourceDefinition", "crd", `{
		"metadata":{"name":"things.`+group+`"},"spec":{"group":"`+group+`","scope":"Namespaced",
		"names":{"kind":"Thing","plural":"things"},"versions":[{"name":"v1","served":true,"storage":true,
		"subresources":{"status":{}},
		"schema":{"openAPIV3Schema":{"type":"object","x_kubernetes_preserve_unknown_fields":true}}}]}}`)
	s.said.hears(t, "waiting for {.status.phase}=Up")
	s.patch(group+"/v1", "Thing", "t", `{"status":{"phase":"Up"}}`, "status")
	result := soon(t, done)
	if result.err != nil {
		t.Fatal(result.err)
	}
	if size, _, _ := unstructured.NestedInt64(s.live(result.value).Object, "spec", "size"); size != 1 {
		t.Errorf("got size %d", size)
	}
	changed := strings.Replace(thing, `"size":1`, `"size":2`, 1)
	if response, _ := s.diff(result.value, changed); len(response.GetReplaces()) > 0 {
		t.Errorf("got %v", response)
	}
	if updated := s.update(result.value, changed); updated.outputs == nil {
		t.Error("no outputs")
	}
}
