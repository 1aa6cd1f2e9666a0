package object

import (
	"reflect"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func TestLiveInputs(t *testing.T) {
	for name, test := range map[string]struct{ inputs, live, want string }{
		"defaults are no drift": {
			inputs: `{"apiVersion":"v1","kind":"Service","spec":{"ports":[{"port":80}]}}`,
			live:   `{"apiVersion":"v1","kind":"Service","spec":{"clusterIP":"1.2.3.4","ports":[{"port":80,"protocol":"TCP"}]}}`,
			want:   `{"apiVersion":"v1","kind":"Service","spec":{"ports":[{"port":80}]}}`,
		},
		"a changed value is": {
			inputs: `{"apiVersion":"apps/v1","kind":"Deployment","spec":{"replicas":2}}`,
			live:   `{"apiVersion":"apps/v1","kind":"Deployment","spec":{"replicas":5}}`,
			want:   `{"apiVersion":"apps/v1","kind":"Deployment","spec":{"replicas":5}}`,
		},
		"a removed value is": {
			inputs: `{"apiVersion":"v1","kind":"ConfigMap","data":{"a":"1","b":"2"}}`,
			live:   `{"apiVersion":"v1","kind":"ConfigMap","data":{"a":"1"}}`,
			want:   `{"apiVersion":"v1","kind":"ConfigMap","data":{"a":"1"}}`,
		},
		"the program's spelling stays": {
			inputs: `{"apiVersion":"v1","kind":"ResourceQuota","spec":{"hard":{"cpu":"1000m","memory":"1Gi"}}}`,
			live:   `{"apiVersion":"v1","kind":"ResourceQuota","spec":{"hard":{"cpu":"1","memory":"2Gi"}}}`,
			want:   `{"apiVersion":"v1","kind":"ResourceQuota","spec":{"hard":{"cpu":"1000m","memory":"2Gi"}}}`,
		},
		"empty values that the server drops": {
			inputs: `{"apiVersion":"v1","kind":"Pod","spec":{"hostNetwork":false,"nodeSelector":{}}}`,
			live:   `{"apiVersion":"v1","kind":"Pod","spec":{"nodeName":"n"}}`,
			want:   `{"apiVersion":"v1","kind":"Pod","spec":{"hostNetwork":false,"nodeSelector":{}}}`,
		},
		"elements are matched by name": {
			inputs: `{"apiVersion":"v1","kind":"Pod","spec":{"containers":[{"name":"app","image":"a"}]}}`,
			live:   `{"apiVersion":"v1","kind":"Pod","spec":{"containers":[{"name":"sidecar","image":"s"},{"name":"app","image":"b"}]}}`,
			want:   `{"apiVersion":"v1","kind":"Pod","spec":{"containers":[{"name":"app","image":"b"}]}}`,
		},
		"stringData is compared with data": {
			inputs: `{"apiVersion":"v1","kind":"Secret","stringData":{"k":"old"}}`,
			live:   `{"apiVersion":"v1","kind":"Secret","data":{"k":"bmV3"}}`,
			want:   `{"apiVersion":"v1","kind":"Secret","stringData":{"k":"new"}}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			live := &unstructured.Unstructured{Object: parse(t, test.live)}
			if got, want := LiveInputs(live, parse(t, test.inputs)), parse(t, test.want); !reflect.DeepEqual(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}

func TestImportInputsAndTidyDropWhatMustNotStay(t *testing.T) {
	live := &unstructured.Unstructured{Object: parse(t, `{
		"apiVersion":"v1","kind":"Secret","data":{"a":"b"},"status":{},
		"metadata":{"name":"n","uid":"u","resourceVersion":"1","generation":2,"managedFields":[{"manager":"m"}],
			"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{\"data\":{\"a\":\"b\"}}"}}}`)}
	want := parse(t, `{"apiVersion":"v1","kind":"Secret","data":{"a":"b"},"metadata":{"name":"n"}}`)
	if got := ImportInputs(live); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if tidy := Tidy(live); len(tidy.GetAnnotations()) != 0 || len(tidy.GetManagedFields()) != 0 {
		t.Errorf("state keeps %v", tidy)
	}
}
