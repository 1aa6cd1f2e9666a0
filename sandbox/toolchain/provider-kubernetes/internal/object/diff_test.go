package object

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func parse(t *testing.T, text string) map[string]any {
	t.Helper()
	parsed := map[string]any{}
	if err := json.Unmarshal([]byte(text), &parsed); err != nil {
		t.Fatal(err)
	}
	return parsed
}

func paths(changes []Change) []string {
	found := []string{}
	for _, change := range changes {
		found = append(found, []string{"+", "-", "~"}[change.Kind]+change.Path.String())
	}
	return found
}

func TestCompare(t *testing.T) {
	deployment := func(spec string) string {
		return `{"apiVersion":"apps/v1","kind":"Deployment","spec":` + spec + `}`
	}
	container := func(fields string) string {
		return deployment(`{"template":{"spec":{"containers":[{"name":"c",` + fields + `}]}}}`)
	}
	for name, test := range map[string]struct {
		old, new string
		want     []string
	}{
		"equal":    {container(`"image":"a"`), container(`"image":"a"`), []string{}},
		"updated":  {container(`"image":"a"`), container(`"image":"b"`), []string{"~spec.template.spec.containers[0].image"}},
		"removed":  {deployment(`{"replicas":2,"paused":true}`), deployment(`{"paused":true}`), []string{"-spec.replicas"}},
		"added":    {deployment(`{"paused":true}`), deployment(`{"replicas":2,"paused":true}`), []string{"+spec.replicas"}},
		"list end": {container(`"args":["a","b"]`), container(`"args":["a"]`), []string{"-spec.template.spec.containers[0].args[1]"}},
		"dotted key": {
			`{"apiVersion":"v1","kind":"ConfigMap","data":{"a.b":"1"}}`, `{"apiVersion":"v1","kind":"ConfigMap","data":{"a.b":"2"}}`,
			[]string{`~data["a.b"]`},
		},
		"two spellings of one quantity": {
			container(`"resources":{"requests":{"cpu":"1000m"}}`), container(`"resources":{"requests":{"cpu":"1"}}`), []string{},
		},
		"false and absent": {container(`"tty":false`), container(`"image":""`), []string{}},
		"stringData and data": {
			`{"apiVersion":"v1","kind":"Secret","stringData":{"k":"v"}}`, `{"apiVersion":"v1","kind":"Secret","data":{"k":"dg=="}}`,
			[]string{},
		},
		"stringData changed, and one more": {
			`{"apiVersion":"v1","kind":"Secret","stringData":{"k":"v","same":"s"}}`,
			`{"apiVersion":"v1","kind":"Secret","stringData":{"k":"w","same":"s","n":""}}`,
			[]string{"~stringData.k", "+stringData.n"},
		},
		"a real change beside a spelling": {
			container(`"image":"a","resources":{"requests":{"cpu":"1000m"}}`),
			container(`"image":"b","resources":{"requests":{"cpu":"1"}}`),
			[]string{"~spec.template.spec.containers[0].image"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := paths(Compare(parse(t, test.old), parse(t, test.new)))
			if !slices.Equal(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func TestCompareTreatsUnknownsAsChanges(t *testing.T) {
	old := parse(t, `{"apiVersion":"v1","kind":"ConfigMap","data":{"a":"1"}}`)
	now := parse(t, `{"apiVersion":"v1","kind":"ConfigMap"}`)
	now["data"] = map[string]any{"a": resource.Computed{Element: resource.NewStringProperty("")}}
	if got := paths(Compare(old, now)); !slices.Equal(got, []string{"~data.a"}) {
		t.Errorf("got %v", got)
	}
}

func TestForceNew(t *testing.T) {
	for name, test := range map[string]struct {
		old, new string
		mutable  Mutability
		want     bool
	}{
		"ConfigMap data": {
			old: `{"apiVersion":"v1","kind":"ConfigMap","data":{"a":"1"}}`, new: `{"apiVersion":"v1","kind":"ConfigMap","data":{"a":"2"}}`,
			want: true,
		},
		"ConfigMap data, mutable": {
			old: `{"apiVersion":"v1","kind":"ConfigMap","data":{"a":"1"}}`, new: `{"apiVersion":"v1","kind":"ConfigMap","data":{"a":"2"}}`,
			mutable: Mutability{ConfigMaps: true},
		},
		"immutable ConfigMap, mutable": {
			old:     `{"apiVersion":"v1","kind":"ConfigMap","immutable":true,"data":{"a":"1"}}`,
			new:     `{"apiVersion":"v1","kind":"ConfigMap","immutable":true,"data":{"a":"2"}}`,
			mutable: Mutability{ConfigMaps: true}, want: true,
		},
		"Job template, deep inside": {
			old:  `{"apiVersion":"batch/v1","kind":"Job","spec":{"template":{"spec":{"containers":[{"image":"a"}]}}}}`,
			new:  `{"apiVersion":"batch/v1","kind":"Job","spec":{"template":{"spec":{"containers":[{"image":"b"}]}}}}`,
			want: true,
		},
		"Job deadline": {
			old: `{"apiVersion":"batch/v1","kind":"Job","spec":{"activeDeadlineSeconds":1}}`,
			new: `{"apiVersion":"batch/v1","kind":"Job","spec":{"activeDeadlineSeconds":2}}`,
		},
		"a parent that brings the field": {
			old: `{"apiVersion":"apps/v1","kind":"Deployment"}`, new: `{"apiVersion":"apps/v1","kind":"Deployment","spec":{"selector":{"a":"b"}}}`,
			want: true,
		},
		"a parent without the field": {
			old: `{"apiVersion":"apps/v1","kind":"Deployment"}`, new: `{"apiVersion":"apps/v1","kind":"Deployment","spec":{"replicas":1}}`,
		},
		"name": {
			old: `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"a"}}`, new: `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"b"}}`,
			want: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			now := parse(t, test.new)
			fields := ForceNew(&unstructured.Unstructured{Object: now}, test.mutable)
			got := slices.ContainsFunc(Compare(parse(t, test.old), now), func(change Change) bool {
				return slices.ContainsFunc(fields, change.Touches)
			})
			if got != test.want {
				t.Errorf("replaces: %v, want %v", got, test.want)
			}
		})
	}
}
