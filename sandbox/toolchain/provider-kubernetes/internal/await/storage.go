package await

import (
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

var storageClasses = storagev1.SchemeGroupVersion.WithResource("storageclasses")

// claim is ready when it is bound. Where the storage class binds only for a first consumer, nobody may be waited for:
// the consumer usually waits for the claim.
func claim(live *unstructured.Unstructured, around source) verdict {
	phase, _, _ := unstructured.NestedString(live.Object, "status", "phase")
	switch corev1.PersistentVolumeClaimPhase(phase) {
	case corev1.ClaimBound:
		return verdict{ready: true}
	case corev1.ClaimLost:
		return verdict{failed: true, message: "the volume it was bound to is lost"}
	}
	name, named, _ := unstructured.NestedString(live.Object, "spec", "storageClassName")
	if named && name == "" {
		return verdict{message: "waiting for a volume to be bound"}
	}
	classes, _ := around.list(query{resource: storageClasses})
	for _, class := range classes {
		isDefault := class.GetAnnotations()["storageclass.kubernetes.io/is-default-class"] == "true"
		if class.GetName() != name && (named || !isDefault) {
			continue
		}
		if mode, _, _ := unstructured.NestedString(class.Object, "volumeBindingMode"); mode == "WaitForFirstConsumer" {
			return verdict{ready: true}
		}
	}
	return verdict{message: "waiting for a volume to be bound"}
}

func volume(live *unstructured.Unstructured, _ source) verdict {
	phase, _, _ := unstructured.NestedString(live.Object, "status", "phase")
	reason, _, _ := unstructured.NestedString(live.Object, "status", "message")
	switch corev1.PersistentVolumePhase(phase) {
	case corev1.VolumeAvailable, corev1.VolumeBound:
		return verdict{ready: true}
	case corev1.VolumeFailed:
		return verdict{failed: true, message: reason}
	}
	return verdict{message: "waiting for the volume to become available"}
}

// quota is ready when the controller enforces what the program asked for.
func quota(live *unstructured.Unstructured, _ source) verdict {
	wanted, _, _ := unstructured.NestedStringMap(live.Object, "spec", "hard")
	enforced, _, _ := unstructured.NestedStringMap(live.Object, "status", "hard")
	for name, text := range wanted {
		want, err := resource.ParseQuantity(text)
		have, haveErr := resource.ParseQuantity(enforced[name])
		if err != nil || haveErr != nil || !equality.Semantic.DeepEqual(want, have) {
			return verdict{message: "waiting for the quota to be enforced"}
		}
	}
	return verdict{ready: true}
}

// tokenSecret waits for the one type of Secret that the cluster fills in.
func tokenSecret(live *unstructured.Unstructured, _ source) verdict {
	kind, _, _ := unstructured.NestedString(live.Object, "type")
	data, _, _ := unstructured.NestedMap(live.Object, "data")
	if kind == string(corev1.SecretTypeServiceAccountToken) && len(data) == 0 {
		return verdict{message: "waiting for the token to be issued"}
	}
	return verdict{ready: true}
}
