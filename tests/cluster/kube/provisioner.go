package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
)

// The dynamic provisioner of the test cluster: a claim becomes a directory and
// a PersistentVolume of type `local`. Kubernetes' own hostPath provisioner is
// no use here: the kubelet applies fsGroup to `local` volumes but never to
// hostPath, so a pod under Pod Security `restricted` could not write to one.
const provisionerName = "paquebot.dev/local-directory"

// What the persistent volume controller and the scheduler write and read.
const (
	annotationProvisioner   = "volume.kubernetes.io/storage-provisioner"
	annotationSelectedNode  = "volume.kubernetes.io/selected-node"
	annotationProvisionedBy = "pv.kubernetes.io/provisioned-by"
)

// retryDelay is how long a failed pass waits before the next one.
const retryDelay = time.Second

type provisioner struct {
	directory string
	client    kubernetes.Interface
	claims    corelisters.PersistentVolumeClaimLister
	volumes   corelisters.PersistentVolumeLister
	wake      chan struct{}
}

func newProvisionerCommand() *cobra.Command {
	var kubeconfig, directory string
	command := &cobra.Command{
		Use:   "volume-provisioner",
		Short: "Give each claim a directory as a local PersistentVolume",
		Args:  cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
			if err != nil {
				return err
			}
			client, err := kubernetes.NewForConfig(config)
			if err != nil {
				return err
			}
			return runProvisioner(command.Context(), client, directory)
		},
	}
	command.Flags().StringVar(&kubeconfig, "kubeconfig", "", "credentials for the API server")
	command.Flags().StringVar(&directory, "directory", "", "where the volumes' directories are made")
	return command
}

// runProvisioner passes over all claims and volumes after each change of any
// of them. Whole passes are cheap at a test cluster's size and need no queue.
func runProvisioner(ctx context.Context, client kubernetes.Interface, directory string) error {
	if ctx == nil {
		ctx = context.Background()
	}
	if !filepath.IsAbs(directory) {
		return fmt.Errorf("--directory must be an absolute path, not %q", directory)
	}
	factory := informers.NewSharedInformerFactory(client, 0)
	core := factory.Core().V1()
	p := &provisioner{
		directory: directory,
		client:    client,
		claims:    core.PersistentVolumeClaims().Lister(),
		volumes:   core.PersistentVolumes().Lister(),
		wake:      make(chan struct{}, 1),
	}
	onChange := cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { p.signal() },
		UpdateFunc: func(any, any) { p.signal() },
		DeleteFunc: func(any) { p.signal() },
	}
	for _, informer := range []cache.SharedIndexInformer{
		core.PersistentVolumeClaims().Informer(), core.PersistentVolumes().Informer(),
	} {
		if _, err := informer.AddEventHandler(onChange); err != nil {
			return err
		}
	}
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.wake:
		}
		if err := p.pass(ctx); err != nil {
			klog.ErrorS(err, "a volume could not be made or removed; trying again")
			time.AfterFunc(retryDelay, p.signal)
		}
	}
}

func (p *provisioner) signal() {
	select {
	case p.wake <- struct{}{}:
	default: // a pass is already due
	}
}

func (p *provisioner) pass(ctx context.Context) error {
	claims, err := p.claims.List(labels.Everything())
	if err != nil {
		return err
	}
	volumes, err := p.volumes.List(labels.Everything())
	if err != nil {
		return err
	}
	var failures []error
	for _, claim := range claims {
		if wantsVolume(claim) {
			failures = append(failures, p.provision(ctx, claim))
		}
	}
	for _, volume := range volumes {
		if isDisposable(volume) {
			failures = append(failures, p.remove(ctx, volume))
		}
	}
	return errors.Join(failures...)
}

// wantsVolume says whether the claim is ours to serve and the scheduler has
// chosen the node of its first pod.
func wantsVolume(claim *corev1.PersistentVolumeClaim) bool {
	return claim.DeletionTimestamp == nil &&
		claim.Spec.VolumeName == "" &&
		claim.Annotations[annotationProvisioner] == provisionerName &&
		claim.Annotations[annotationSelectedNode] != ""
}

// isDisposable says whether the volume is ours, its claim is gone, and its
// policy is to be deleted with it.
func isDisposable(volume *corev1.PersistentVolume) bool {
	return volume.DeletionTimestamp == nil &&
		volume.Status.Phase == corev1.VolumeReleased &&
		volume.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimDelete &&
		volume.Annotations[annotationProvisionedBy] == provisionerName &&
		volume.Spec.Local != nil
}

func (p *provisioner) provision(ctx context.Context, claim *corev1.PersistentVolumeClaim) error {
	if claim.Spec.StorageClassName == nil {
		return fmt.Errorf("claim %s/%s names no storage class", claim.Namespace, claim.Name)
	}
	class, err := p.client.StorageV1().StorageClasses().Get(ctx, *claim.Spec.StorageClassName, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("storage class of claim %s/%s: %w", claim.Namespace, claim.Name, err)
	}
	policy := corev1.PersistentVolumeReclaimDelete
	if class.ReclaimPolicy != nil {
		policy = *class.ReclaimPolicy
	}
	volume := volumeFor(claim, p.directory, policy)
	if err := os.MkdirAll(volume.Spec.Local.Path, 0o755); err != nil {
		return err
	}
	_, err = p.client.CoreV1().PersistentVolumes().Create(ctx, volume, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil // made by an earlier pass; the controller has yet to bind it
	}
	if err == nil {
		klog.InfoS("made a volume", "volume", volume.Name, "claim", klog.KObj(claim))
	}
	return err
}

// volumeFor is the volume of one claim: named after the claim's UID, so that a
// claim deleted and made again gets a fresh one, and bound to it from birth.
func volumeFor(claim *corev1.PersistentVolumeClaim, directory string, policy corev1.PersistentVolumeReclaimPolicy) *corev1.PersistentVolume {
	name := "pvc-" + string(claim.UID)
	return &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{
			Name:        name,
			Annotations: map[string]string{annotationProvisionedBy: provisionerName},
		},
		Spec: corev1.PersistentVolumeSpec{
			Capacity:                      corev1.ResourceList{corev1.ResourceStorage: claim.Spec.Resources.Requests[corev1.ResourceStorage]},
			AccessModes:                   claim.Spec.AccessModes,
			PersistentVolumeReclaimPolicy: policy,
			StorageClassName:              *claim.Spec.StorageClassName,
			ClaimRef: &corev1.ObjectReference{
				APIVersion: "v1", Kind: "PersistentVolumeClaim",
				Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID,
			},
			PersistentVolumeSource: corev1.PersistentVolumeSource{
				Local: &corev1.LocalVolumeSource{Path: filepath.Join(directory, name)},
			},
			NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{
				NodeSelectorTerms: []corev1.NodeSelectorTerm{{
					MatchExpressions: []corev1.NodeSelectorRequirement{{
						Key:      corev1.LabelHostname,
						Operator: corev1.NodeSelectorOpIn,
						Values:   []string{claim.Annotations[annotationSelectedNode]},
					}},
				}},
			}},
		},
	}
}

func (p *provisioner) remove(ctx context.Context, volume *corev1.PersistentVolume) error {
	// The path is an API object's: only what lies directly in our directory
	// is ever removed.
	if filepath.Dir(filepath.Clean(volume.Spec.Local.Path)) != filepath.Clean(p.directory) {
		return fmt.Errorf("volume %s is at %s, outside %s: left alone", volume.Name, volume.Spec.Local.Path, p.directory)
	}
	if err := os.RemoveAll(volume.Spec.Local.Path); err != nil {
		return err
	}
	err := p.client.CoreV1().PersistentVolumes().Delete(ctx, volume.Name, metav1.DeleteOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err == nil {
		klog.InfoS("removed a volume", "volume", volume.Name)
	}
	return err
}
