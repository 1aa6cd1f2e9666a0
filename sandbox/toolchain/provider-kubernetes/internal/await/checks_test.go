package await

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utiljson "k8s.io/apimachinery/pkg/util/json"
)

// fixed is a source that shows the same objects whatever is asked, by resource.
type fixed map[string][]*unstructured.Unstructured

func (f fixed) list(q query) ([]*unstructured.Unstructured, bool) {
	return f[q.resource.Resource], true
}

func parse(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	object := &unstructured.Unstructured{}
	if err := utiljson.Unmarshal([]byte(text), &object.Object); err != nil {
		t.Fatal(err)
	}
	return object
}

func TestChecks(t *testing.T) {
	const (
		ready   = "ready"
		failed  = "failed"
		waiting = "waiting"
	)
	deployment := `"apiVersion":"apps/v1","kind":"Deployment","metadata":{"generation":2},"spec":{"replicas":2}`
	for name, test := range map[string]struct {
		live, around, want, says string
	}{
		"rolled out": {
			live: `{` + deployment + `,"status":{"observedGeneration":2,"replicas":2,"updatedReplicas":2,"readyReplicas":2,
				"availableReplicas":2,"conditions":[{"type":"Available","status":"True"}]}}`, want: ready,
		},
		"old status": {
			live: `{` + deployment + `,"status":{"observedGeneration":1,"replicas":2,"updatedReplicas":2,"readyReplicas":2,
				"availableReplicas":2,"conditions":[{"type":"Available","status":"True"}]}}`, want: waiting,
		},
		"old replicas left": {
			live: `{` + deployment + `,"status":{"observedGeneration":2,"replicas":3,"updatedReplicas":2,"readyReplicas":3,
				"availableReplicas":3,"conditions":[{"type":"Available","status":"True"}]}}`, want: waiting,
		},
		"rollout stuck": {
			live: `{` + deployment + `,"status":{"observedGeneration":2,"conditions":[
				{"type":"Progressing","status":"False","reason":"ProgressDeadlineExceeded","message":"too slow"}]}}`,
			want: failed, says: "too slow",
		},
		"job running": {live: `{"apiVersion":"batch/v1","kind":"Job","status":{"active":1}}`, want: waiting, says: "1 pods active"},
		"job complete": {
			live: `{"apiVersion":"batch/v1","kind":"Job","status":{"conditions":[{"type":"Complete","status":"True"}]}}`, want: ready,
		},
		"job failed": {
			live: `{"apiVersion":"batch/v1","kind":"Job","status":{"conditions":[
				{"type":"Failed","status":"True","reason":"BackoffLimitExceeded","message":"gave up"}]}}`,
			want: failed, says: "BackoffLimitExceeded: gave up",
		},
		"job suspended": {live: `{"apiVersion":"batch/v1","kind":"Job","spec":{"suspend":true}}`, want: ready},
		"service without pods": {
			live: `{"apiVersion":"v1","kind":"Service","spec":{"selector":{"a":"b"}}}`, want: waiting, says: "targets no pods",
		},
		"service with pods": {
			live:   `{"apiVersion":"v1","kind":"Service","spec":{"selector":{"a":"b"}}}`,
			around: `{"endpointslices":[{"endpoints":[{"conditions":{"ready":false}}]}]}`, want: ready,
		},
		"headless service": {
			live: `{"apiVersion":"v1","kind":"Service","spec":{"clusterIP":"None","selector":{"a":"b"}}}`, want: ready,
		},
		"external name":            {live: `{"apiVersion":"v1","kind":"Service","spec":{"type":"ExternalName"}}`, want: ready},
		"service without selector": {live: `{"apiVersion":"v1","kind":"Service","spec":{}}`, want: ready},
		"load balancer": {
			live: `{"apiVersion":"v1","kind":"Service","spec":{"type":"LoadBalancer","selector":{"a":"b"}}}`, want: waiting,
		},
		"ingress without address": {
			live: `{"apiVersion":"networking.k8s.io/v1","kind":"Ingress","spec":{}}`, want: waiting, says: "address",
		},
		"ingress": {
			live: `{"apiVersion":"networking.k8s.io/v1","kind":"Ingress","status":{"loadBalancer":{"ingress":[{"ip":"1.1.1.1"}]}}}`,
			want: ready,
		},
		"claim bound": {
			live: `{"apiVersion":"v1","kind":"PersistentVolumeClaim","status":{"phase":"Bound"}}`, want: ready,
		},
		"claim pending": {
			live:   `{"apiVersion":"v1","kind":"PersistentVolumeClaim","spec":{"storageClassName":"fast"}}`,
			around: `{"storageclasses":[{"metadata":{"name":"fast"},"volumeBindingMode":"Immediate"}]}`, want: waiting,
		},
		"claim for the first consumer": {
			live: `{"apiVersion":"v1","kind":"PersistentVolumeClaim","spec":{}}`,
			around: `{"storageclasses":[{"metadata":{"name":"d","annotations":{"storageclass.kubernetes.io/is-default-class":"true"}},
				"volumeBindingMode":"WaitForFirstConsumer"}]}`, want: ready,
		},
		"quota": {
			live: `{"apiVersion":"v1","kind":"ResourceQuota","spec":{"hard":{"cpu":"1000m"}},"status":{"hard":{"cpu":"1"}}}`,
			want: ready,
		},
		"condition": {
			live: `{"apiVersion":"x/v1","kind":"Y","metadata":{"annotations":{"pulumi.com/waitFor":"condition=Done"}},
				"status":{"conditions":[{"type":"Done","status":"False","reason":"NotYet"}]}}`, want: waiting, says: "NotYet",
		},
		"all of two": {
			live: `{"apiVersion":"x/v1","kind":"Y","metadata":{"annotations":{
				"pulumi.com/waitFor":"[\"condition=Done\",\"jsonpath={.status.phase}=Up\"]"}},
				"status":{"phase":"Up","conditions":[{"type":"Done","status":"True"}]}}`, want: ready,
		},
		"skipped": {
			live: `{"apiVersion":"batch/v1","kind":"Job","metadata":{"annotations":{"pulumi.com/skipAwait":"true"}}}`, want: ready,
		},
		"nothing to wait for": {live: `{"apiVersion":"v1","kind":"ConfigMap"}`, want: ready},
	} {
		t.Run(name, func(t *testing.T) {
			live, around := parse(t, test.live), fixed{}
			if test.around != "" {
				parsed := map[string][]map[string]any{}
				if err := utiljson.Unmarshal([]byte(test.around), &parsed); err != nil {
					t.Fatal(err)
				}
				for resource, objects := range parsed {
					for _, object := range objects {
						around[resource] = append(around[resource], &unstructured.Unstructured{Object: object})
					}
				}
			}
			judge, err := checkFor(live, live)
			if err != nil {
				t.Fatal(err)
			}
			got := verdict{ready: true}
			if judge != nil {
				got = judge(live, around)
			}
			state := waiting
			if got.ready {
				state = ready
			} else if got.failed {
				state = failed
			}
			if state != test.want || !strings.Contains(got.message, test.says) {
				t.Errorf("got %s (%s), want %s (%s)", state, got.message, test.want, test.says)
			}
		})
	}
}

func TestWrongWaitForIsExplained(t *testing.T) {
	for _, expression := range []string{"Ready", "jsonpath={.a", "jsonpath={.a}b", "[]"} {
		if _, err := custom(expression); err == nil || !strings.Contains(err.Error(), "pulumi.com/waitFor") {
			t.Errorf("%s: %v", expression, err)
		}
	}
}

func TestSuspectIsTheNewestUnwellPod(t *testing.T) {
	var objects []*unstructured.Unstructured
	for _, text := range []string{
		`{"metadata":{"name":"well","creationTimestamp":"2026-01-03T00:00:00Z"},"status":{"conditions":[{"type":"Ready","status":"True"}]}}`,
		`{"metadata":{"name":"old","creationTimestamp":"2026-01-01T00:00:00Z"},"status":{"phase":"Failed"}}`,
		`{"metadata":{"name":"new","creationTimestamp":"2026-01-02T00:00:00Z"},"status":{"phase":"Running","containerStatuses":[
			{"name":"app","restartCount":3,"state":{"waiting":{"reason":"CrashLoopBackOff"}},
			 "lastState":{"terminated":{"exitCode":137,"reason":"OOMKilled"}}}]}}`,
	} {
		objects = append(objects, parse(t, text))
	}
	pod := suspect(toPods(objects))
	if pod == nil || pod.Name != "new" {
		t.Fatalf("suspects %v", pod)
	}
	told := complaints(pod)
	want := "container app exited with code 137 (OOMKilled), restarted 3 times, now CrashLoopBackOff"
	if len(told) != 1 || told[0].text != want || !told[0].previous {
		t.Errorf("got %+v", told)
	}
}

func TestOlder(t *testing.T) {
	version := func(generation int64, resourceVersion string) *unstructured.Unstructured {
		object := &unstructured.Unstructured{Object: map[string]any{}}
		object.SetGeneration(generation)
		object.SetResourceVersion(resourceVersion)
		return object
	}
	for name, test := range map[string]struct {
		a, b *unstructured.Unstructured
		want bool
	}{
		"an older version":               {version(0, "9"), version(0, "10"), true},
		"the same version":               {version(1, "10"), version(1, "10"), false},
		"a newer version":                {version(1, "11"), version(1, "10"), false},
		"versions that are not numbers":  {version(0, "b"), version(0, "a"), false},
		"the same, but generations tell": {version(1, "b"), version(2, "a"), true},
	} {
		if got := older(test.a, test.b); got != test.want {
			t.Errorf("%s: got %v", name, got)
		}
	}
}
