package await

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

var endpointSlices = discoveryv1.SchemeGroupVersion.WithResource("endpointslices")

// service is ready when it has somewhere to send traffic, and its outside address if it asks for one. Endpoints count
// even while their pods are not ready yet, as they do for the official provider: the pods' own resource waits for that.
func service(live *unstructured.Unstructured, around source) verdict {
	kind, _, _ := unstructured.NestedString(live.Object, "spec", "type")
	clusterIP, _, _ := unstructured.NestedString(live.Object, "spec", "clusterIP")
	selector, _, _ := unstructured.NestedStringMap(live.Object, "spec", "selector")
	if kind == string(corev1.ServiceTypeLoadBalancer) && !hasAddress(live) {
		return verdict{message: "no load balancer has given it an address yet"}
	}
	if kind == string(corev1.ServiceTypeExternalName) || clusterIP == corev1.ClusterIPNone || len(selector) == 0 {
		return verdict{ready: true}
	}
	slices, known := around.list(query{
		resource: endpointSlices, namespace: live.GetNamespace(), labels: discoveryv1.LabelServiceName + "=" + live.GetName(),
	})
	for _, slice := range slices {
		if endpoints, _, _ := unstructured.NestedSlice(slice.Object, "endpoints"); len(endpoints) > 0 {
			return verdict{ready: true}
		}
	}
	if !known {
		return verdict{message: "looking for pods to send traffic to"}
	}
	return verdict{message: "it targets no pods: the selected pods may not have started, or spec.selector matches none"}
}

// ingress is ready when a controller has given it an address.
func ingress(live *unstructured.Unstructured, _ source) verdict {
	return verdict{ready: hasAddress(live), message: "no ingress controller has given it an address yet"}
}

func hasAddress(live *unstructured.Unstructured) bool {
	addresses, _, _ := unstructured.NestedSlice(live.Object, "status", "loadBalancer", "ingress")
	return len(addresses) > 0
}
