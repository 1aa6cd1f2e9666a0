package await

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/util/jsonpath"
)

// custom builds a check from the annotation pulumi.com/waitFor: one expression, or a JSON list of which all must hold.
func custom(expressions string) (check, error) {
	var list []string
	if err := json.Unmarshal([]byte(expressions), &list); err != nil {
		list = []string{expressions}
	}
	var checks []check
	for _, expression := range list {
		var one check
		var err error
		if rest, ok := strings.CutPrefix(expression, "jsonpath="); ok {
			one, err = atPath(rest)
		} else if rest, ok := strings.CutPrefix(expression, "condition="); ok {
			one = hasCondition(rest)
		} else {
			err = fmt.Errorf("%q must start with jsonpath= or condition=", expression)
		}
		if err != nil {
			return nil, fmt.Errorf("the annotation pulumi.com/waitFor is wrong: %w", err)
		}
		checks = append(checks, one)
	}
	if len(checks) == 0 {
		return nil, fmt.Errorf("the annotation pulumi.com/waitFor names no condition")
	}
	return func(live *unstructured.Unstructured, around source) verdict {
		for _, one := range checks {
			if result := one(live, around); !result.ready {
				return result
			}
		}
		return verdict{ready: true}
	}, nil
}

// atPath understands {.status.phase}=Running, and {.status.address} for a value that merely has to exist.
func atPath(expression string) (check, error) {
	path, wanted, compares := expression, "", false
	if end := strings.LastIndex(expression, "}"); end >= 0 && end+1 < len(expression) {
		path = expression[:end+1]
		if wanted, compares = strings.CutPrefix(expression[end+1:], "="); !compares {
			return nil, fmt.Errorf("%q must look like jsonpath={.a.b} or jsonpath={.a.b}=value", expression)
		}
		wanted = strings.Trim(wanted, `'"`)
	}
	parser := jsonpath.New("waitFor").AllowMissingKeys(true)
	if err := parser.Parse(path); err != nil {
		return nil, fmt.Errorf("%q: %w", path, err)
	}
	return func(live *unstructured.Unstructured, _ source) verdict {
		var found bytes.Buffer
		if err := parser.Execute(&found, live.Object); err != nil {
			return verdict{message: err.Error()}
		}
		ready := found.Len() > 0 && (!compares || found.String() == wanted)
		return verdict{ready: ready, message: fmt.Sprintf("waiting for %s, which is %q now", expression, found.String())}
	}, nil
}

// hasCondition understands Ready and Ready=False.
func hasCondition(expression string) check {
	kind, wanted, compares := strings.Cut(expression, "=")
	if !compares {
		wanted = "True"
	}
	return func(live *unstructured.Unstructured, _ source) verdict {
		current := conditionOf(live, kind)
		return verdict{
			ready:   strings.EqualFold(current.status, wanted),
			message: fmt.Sprintf("waiting for condition %s to be %s: %s", kind, wanted, current.text()),
		}
	}
}
