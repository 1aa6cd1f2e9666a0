package await

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

var (
	services       = corev1.SchemeGroupVersion.WithResource("services")
	endpointSlices = discoveryv1.SchemeGroupVersion.WithResource("endpointslices")
)

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

// ingress is ready when a controller has given it an address and the services it names exist.
func ingress(live *unstructured.Unstructured, around source) verdict {
	if !hasAddress(live) {
		return verdict{message: "no ingress controller has given it an address yet"}
	}
	wanted := backends(live)
	if len(wanted) == 0 {
		return verdict{ready: true}
	}
	present, known := around.list(query{resource: services, namespace: live.GetNamespace()})
	if !known {
		return verdict{message: "looking for the services it names"}
	}
	for _, found := range present {
		delete(wanted, found.GetName())
	}
	for name, path := range wanted {
		return verdict{message: fmt.Sprintf("the path %q leads to Service %s, which does not exist", path, name)}
	}
	return verdict{ready: true}
}

func hasAddress(live *unstructured.Unstructured) bool {
	addresses, _, _ := unstructured.NestedSlice(live.Object, "status", "loadBalancer", "ingress")
	return len(addresses) > 0
}

// backends maps the services that an ingress' rules name to the path that leads there.
func backends(live *unstructured.Unstructured) map[string]string {
	found := map[string]string{}
	rules, _, _ := unstructured.NestedSlice(live.Object, "spec", "rules")
	for _, rule := range rules {
		rule, _ := rule.(map[string]any)
		host, _ := rule["host"].(string)
		paths, _, _ := unstructured.NestedSlice(rule, "http", "paths")
		for _, entry := range paths {
			entry, _ := entry.(map[string]any)
			path, _ := entry["path"].(string)
			if name, _, _ := unstructured.NestedString(entry, "backend", "service", "name"); name != "" {
				found[name] = strings.TrimSpace(host + path)
			}
		}
	}
	return found
}
