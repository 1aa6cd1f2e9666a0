package object

import (
	"strconv"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Annotations by which a program steers the provider.
const (
	Autonamed           = "pulumi.com/autonamed"
	SkipAwait           = "pulumi.com/skipAwait"
	WaitFor             = "pulumi.com/waitFor"
	TimeoutSeconds      = "pulumi.com/timeoutSeconds"
	ReplaceUnready      = "pulumi.com/replaceUnready"
	PatchForce          = "pulumi.com/patchForce"
	PatchFieldManager   = "pulumi.com/patchFieldManager"
	DeletionPropagation = "pulumi.com/deletionPropagationPolicy"

	// lastApplied is kubectl's own record; for a Secret it repeats the data in clear.
	lastApplied = "kubectl.kubernetes.io/last-applied-configuration"
)

// DefaultTimeout is how long an object may take to become ready, or to go away.
const DefaultTimeout = 10 * time.Minute

// Annotation reads one annotation, unknown values counting as absent.
func Annotation(obj *unstructured.Unstructured, key string) string {
	metadata, _ := obj.Object["metadata"].(map[string]any)
	annotations, _ := metadata["annotations"].(map[string]any)
	value, _ := annotations[key].(string)
	return value
}

// IsTrue reports whether an annotation is set to "true".
func IsTrue(obj *unstructured.Unstructured, key string) bool {
	return Annotation(obj, key) == "true"
}

// Timeout takes the resource option customTimeouts first, the annotation second, the default last.
func Timeout(customSeconds float64, inputs *unstructured.Unstructured) time.Duration {
	if customSeconds > 0 {
		return time.Duration(customSeconds * float64(time.Second))
	}
	if seconds, err := strconv.Atoi(Annotation(inputs, TimeoutSeconds)); err == nil && seconds > 0 {
		return time.Duration(seconds) * time.Second
	}
	return DefaultTimeout
}
