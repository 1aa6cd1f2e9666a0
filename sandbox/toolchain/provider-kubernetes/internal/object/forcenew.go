package object

import (
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Mutability says which payloads may be changed in place although the official provider replaces them by default.
type Mutability struct {
	ConfigMaps bool
	Secrets    bool
}

// forceNew lists, by group and kind, the fields whose change the official provider answers with a replacement. Most of
// them are immutable to the API server as well, and would be found by a dry run; the list keeps those that are not (a
// ConfigMap's data, a Job's parallelism), and lets a preview decide without a cluster.
var forceNew = map[string]map[string][]string{
	"apps": {
		"DaemonSet":  {"spec.selector"},
		"Deployment": {"spec.selector"},
		"StatefulSet": {
			"spec.podManagementPolicy", "spec.revisionHistoryLimit", "spec.selector", "spec.serviceName",
			"spec.volumeClaimTemplates",
		},
	},
	"batch": {
		"Job": {"spec.completions", "spec.parallelism", "spec.selector", "spec.template"},
	},
	"rbac.authorization.k8s.io": {
		"ClusterRoleBinding": {"roleRef"},
		"RoleBinding":        {"roleRef"},
	},
	"storage.k8s.io": {
		"StorageClass": {"parameters", "provisioner"},
	},
	"": {
		"PersistentVolume": {
			"spec.awsElasticBlockStore", "spec.azureDisk", "spec.azureFile", "spec.cephfs", "spec.cinder", "spec.csi",
			"spec.fc", "spec.flexVolume", "spec.flocker", "spec.gcePersistentDisk", "spec.glusterfs", "spec.hostPath",
			"spec.iscsi", "spec.local", "spec.nfs", "spec.photonPersistentDisk", "spec.portworxVolume", "spec.quobyte",
			"spec.rbd", "spec.scaleIO", "spec.storageos", "spec.vsphereVolume",
		},
		"PersistentVolumeClaim": {"spec.accessModes", "spec.selector", "spec.storageClassName", "spec.volumeName"},
		"Pod": append(podFields,
			containerFields("spec.containers")...),
		"ResourceQuota": {"spec.scopes"},
		"Service":       {"spec.clusterIP"},
	},
}

var podFields = append([]string{
	"spec.affinity", "spec.automountServiceAccountToken", "spec.dnsConfig", "spec.dnsPolicy", "spec.enableServiceLinks",
	"spec.hostAliases", "spec.hostIPC", "spec.hostNetwork", "spec.hostPID", "spec.hostname", "spec.imagePullSecrets",
	"spec.nodeName", "spec.nodeSelector", "spec.overhead", "spec.preemptionPolicy", "spec.priority",
	"spec.priorityClassName", "spec.readinessGates", "spec.restartPolicy", "spec.runtimeClassName", "spec.schedulerName",
	"spec.securityContext", "spec.serviceAccount", "spec.serviceAccountName", "spec.shareProcessNamespace",
	"spec.subdomain", "spec.terminationGracePeriodSeconds", "spec.volumes",
}, containerFields("spec.initContainers")...)

func containerFields(prefix string) []string {
	names := []string{
		"args", "command", "env", "image", "imagePullPolicy", "lifecycle", "livenessProbe", "ports", "readinessProbe",
		"resources", "securityContext", "stdin", "stdinOnce", "terminationMessagePath", "terminationMessagePolicy", "tty",
		"volumeDevices", "volumeMounts", "workingDir",
	}
	fields := make([]string, len(names))
	for i, name := range names {
		fields[i] = prefix + "." + name
	}
	return fields
}

// ForceNew lists the fields of an object whose change means a new object.
func ForceNew(obj *unstructured.Unstructured, mutable Mutability) []string {
	fields := []string{"kind", "metadata.name", "metadata.namespace"}
	gk := obj.GroupVersionKind().GroupKind()
	immutable, _, _ := unstructured.NestedBool(obj.Object, "immutable")
	switch {
	case gk.Group == "" && gk.Kind == "ConfigMap":
		if immutable || !mutable.ConfigMaps {
			fields = append(fields, "data", "binaryData")
		}
	case gk.Group == "" && gk.Kind == "Secret":
		fields = append(fields, "type")
		if immutable || !mutable.Secrets {
			fields = append(fields, "data", "stringData")
		}
	default:
		fields = append(fields, forceNew[gk.Group][gk.Kind]...)
	}
	return fields
}

// KeepsData tells the kinds whose replacement destroys data. For these the list above is the whole truth: a field that
// only the API server calls immutable stays an error, as with the official provider.
func KeepsData(obj *unstructured.Unstructured) bool {
	switch obj.GroupVersionKind().GroupKind().String() {
	case "PersistentVolumeClaim", "PersistentVolume", "Namespace", "CustomResourceDefinition.apiextensions.k8s.io":
		return true
	}
	return false
}
