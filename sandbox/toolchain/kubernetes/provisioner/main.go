// Command provisioner makes and removes the volumes of the storage class "local": a
// folder per claim on the node's own disk, handed out as a volume of type "local".
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"
)

const name = "runbook.sandbox/local"

func main() {
	klog.InitFlags(nil)
	defer klog.Flush()
	kubeconfig := flag.String("kubeconfig", "", "file with the API server's address and credentials")
	root := flag.String("root", "", "folder that holds one folder per volume")
	flag.Parse()
	if *kubeconfig == "" || *root == "" {
		fmt.Fprintln(os.Stderr, "usage: provisioner --kubeconfig FILE --root FOLDER")
		os.Exit(2)
	}
	if err := run(*kubeconfig, *root); err != nil {
		klog.ErrorS(err, "provisioner ended")
		os.Exit(1)
	}
}

func run(kubeconfig, root string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return fmt.Errorf("read %s: %w", kubeconfig, err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	controller.NewProvisionController(ctx, client, name, &local{root: root},
		controller.LeaderElection(false),
	).Run(ctx)
	return nil
}

type local struct{ root string }

// Provision makes the folder. Kubelet gives it the pod's fsGroup when it mounts it; the
// open mode is for pods without one.
func (l *local) Provision(
	_ context.Context, options controller.ProvisionOptions,
) (*corev1.PersistentVolume, controller.ProvisioningState, error) {
	claim := options.PVC
	if options.SelectedNodeName == "" {
		return nil, controller.ProvisioningFinished, fmt.Errorf(
			"storage class %q needs volumeBindingMode: WaitForFirstConsumer", options.StorageClass.Name)
	}
	if claim.Spec.Selector != nil {
		return nil, controller.ProvisioningFinished, fmt.Errorf("claim %s/%s: selectors are not supported",
			claim.Namespace, claim.Name)
	}
	path := filepath.Join(l.root, fmt.Sprintf("%s_%s_%s", options.PVName, claim.Namespace, claim.Name))
	if err := os.MkdirAll(path, 0o777); err != nil {
		return nil, controller.ProvisioningNoChange, err
	}
	if err := os.Chmod(path, 0o777); err != nil { // whatever the umask says
		return nil, controller.ProvisioningNoChange, err
	}
	node := options.SelectedNodeName
	return &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: options.PVName},
		Spec: corev1.PersistentVolumeSpec{
			PersistentVolumeReclaimPolicy: *options.StorageClass.ReclaimPolicy,
			AccessModes:                   claim.Spec.AccessModes,
			VolumeMode:                    claim.Spec.VolumeMode,
			Capacity: corev1.ResourceList{
				corev1.ResourceStorage: claim.Spec.Resources.Requests[corev1.ResourceStorage],
			},
			PersistentVolumeSource: corev1.PersistentVolumeSource{
				Local: &corev1.LocalVolumeSource{Path: path},
			},
			NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{
				NodeSelectorTerms: []corev1.NodeSelectorTerm{{
					MatchExpressions: []corev1.NodeSelectorRequirement{{
						Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{node},
					}},
				}},
			}},
		},
	}, controller.ProvisioningFinished, nil
}

func (l *local) Delete(_ context.Context, volume *corev1.PersistentVolume) error {
	path := volume.Spec.Local.Path
	if filepath.Dir(path) != filepath.Clean(l.root) {
		return fmt.Errorf("volume %s is at %s, outside %s: not removed", volume.Name, path, l.root)
	}
	return os.RemoveAll(path)
}
