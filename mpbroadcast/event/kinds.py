"""Every kind of the official client: written by `kindsgen`, not by hand. Runs in: processes that look a class up.

Read by `scheme`, when it first meets a model of the client. The kind is the name of the class without its version.
"""

from __future__ import annotations

from typing import Final

__all__ = ["KINDS"]

KINDS: Final = {
    "admissionregistration.k8s.io/v1": (
        "V1MutatingAdmissionPolicy V1MutatingAdmissionPolicyBinding V1MutatingAdmissionPolicyBindingList "
        "V1MutatingAdmissionPolicyList V1MutatingWebhookConfiguration V1MutatingWebhookConfigurationList "
        "V1ValidatingAdmissionPolicy V1ValidatingAdmissionPolicyBinding V1ValidatingAdmissionPolicyBindingList "
        "V1ValidatingAdmissionPolicyList V1ValidatingWebhookConfiguration V1ValidatingWebhookConfigurationList"
    ),
    "admissionregistration.k8s.io/v1alpha1": (
        "V1alpha1MutatingAdmissionPolicy V1alpha1MutatingAdmissionPolicyBinding "
        "V1alpha1MutatingAdmissionPolicyBindingList V1alpha1MutatingAdmissionPolicyList"
    ),
    "admissionregistration.k8s.io/v1beta1": (
        "V1beta1MutatingAdmissionPolicy V1beta1MutatingAdmissionPolicyBinding "
        "V1beta1MutatingAdmissionPolicyBindingList V1beta1MutatingAdmissionPolicyList"
    ),
    "apiextensions.k8s.io/v1": "V1CustomResourceDefinition V1CustomResourceDefinitionList",
    "apiregistration.k8s.io/v1": "V1APIService V1APIServiceList",
    "apps/v1": (
        "V1ControllerRevision V1ControllerRevisionList V1DaemonSet V1DaemonSetList V1Deployment V1DeploymentList "
        "V1ReplicaSet V1ReplicaSetList V1StatefulSet V1StatefulSetList"
    ),
    "authentication.k8s.io/v1": "AuthenticationV1TokenRequest V1SelfSubjectReview V1TokenReview",
    "authorization.k8s.io/v1": (
        "V1LocalSubjectAccessReview V1SelfSubjectAccessReview V1SelfSubjectRulesReview V1SubjectAccessReview"
    ),
    "autoscaling/v1": "V1HorizontalPodAutoscaler V1HorizontalPodAutoscalerList V1Scale",
    "autoscaling/v2": "V2HorizontalPodAutoscaler V2HorizontalPodAutoscalerList",
    "batch/v1": "V1CronJob V1CronJobList V1Job V1JobList",
    "certificates.k8s.io/v1": (
        "V1CertificateSigningRequest V1CertificateSigningRequestList V1ClusterTrustBundle V1ClusterTrustBundleList "
        "V1PodCertificateRequest V1PodCertificateRequestList"
    ),
    "certificates.k8s.io/v1alpha1": "V1alpha1ClusterTrustBundle V1alpha1ClusterTrustBundleList",
    "certificates.k8s.io/v1beta1": (
        "V1beta1ClusterTrustBundle V1beta1ClusterTrustBundleList V1beta1PodCertificateRequest "
        "V1beta1PodCertificateRequestList"
    ),
    "coordination.k8s.io/v1": "V1Lease V1LeaseList",
    "coordination.k8s.io/v1alpha2": "V1alpha2LeaseCandidate V1alpha2LeaseCandidateList",
    "coordination.k8s.io/v1beta1": "V1beta1LeaseCandidate V1beta1LeaseCandidateList",
    "discovery.k8s.io/v1": "V1EndpointSlice V1EndpointSliceList",
    "events.k8s.io/v1": "EventsV1Event EventsV1EventList",
    "flowcontrol.apiserver.k8s.io/v1": (
        "V1FlowSchema V1FlowSchemaList V1PriorityLevelConfiguration V1PriorityLevelConfigurationList"
    ),
    "internal.apiserver.k8s.io/v1alpha1": "V1alpha1StorageVersion V1alpha1StorageVersionList",
    "lifecycle.k8s.io/v1alpha1": (
        "V1alpha1Eviction V1alpha1EvictionList V1alpha1EvictionRequest V1alpha1EvictionRequestList"
    ),
    "networking.k8s.io/v1": (
        "V1IPAddress V1IPAddressList V1Ingress V1IngressClass V1IngressClassList V1IngressList V1NetworkPolicy "
        "V1NetworkPolicyList V1ServiceCIDR V1ServiceCIDRList"
    ),
    "networking.k8s.io/v1beta1": "V1beta1IPAddress V1beta1IPAddressList V1beta1ServiceCIDR V1beta1ServiceCIDRList",
    "node.k8s.io/v1": "V1RuntimeClass V1RuntimeClassList",
    "policy/v1": "V1Eviction V1PodDisruptionBudget V1PodDisruptionBudgetList",
    "rbac.authorization.k8s.io/v1": (
        "V1ClusterRole V1ClusterRoleBinding V1ClusterRoleBindingList V1ClusterRoleList V1Role V1RoleBinding "
        "V1RoleBindingList V1RoleList"
    ),
    "resource.k8s.io/v1": (
        "ResourceV1ResourceClaim V1DeviceClass V1DeviceClassList V1DeviceTaintRule V1DeviceTaintRuleList "
        "V1ResourceClaimList V1ResourceClaimTemplate V1ResourceClaimTemplateList V1ResourceSlice V1ResourceSliceList"
    ),
    "resource.k8s.io/v1alpha3": (
        "V1alpha3DeviceTaintRule V1alpha3DeviceTaintRuleList V1alpha3ResourcePoolStatusRequest "
        "V1alpha3ResourcePoolStatusRequestList"
    ),
    "resource.k8s.io/v1beta1": (
        "V1beta1DeviceClass V1beta1DeviceClassList V1beta1ResourceClaim V1beta1ResourceClaimList "
        "V1beta1ResourceClaimTemplate V1beta1ResourceClaimTemplateList V1beta1ResourceSlice V1beta1ResourceSliceList"
    ),
    "resource.k8s.io/v1beta2": (
        "V1beta2DeviceClass V1beta2DeviceClassList V1beta2DeviceTaintRule V1beta2DeviceTaintRuleList "
        "V1beta2ResourceClaim V1beta2ResourceClaimList V1beta2ResourceClaimTemplate V1beta2ResourceClaimTemplateList "
        "V1beta2ResourceSlice V1beta2ResourceSliceList"
    ),
    "scheduling.k8s.io/v1": "V1PriorityClass V1PriorityClassList",
    "scheduling.k8s.io/v1alpha2": "V1alpha2PodGroup V1alpha2PodGroupList V1alpha2Workload V1alpha2WorkloadList",
    "scheduling.k8s.io/v1alpha3": (
        "V1alpha3CompositePodGroup V1alpha3CompositePodGroupList V1alpha3PodGroup V1alpha3PodGroupList "
        "V1alpha3Workload V1alpha3WorkloadList"
    ),
    "scheduling.k8s.io/v1beta1": "V1beta1PodGroup V1beta1PodGroupList V1beta1Workload V1beta1WorkloadList",
    "storage.k8s.io/v1": (
        "V1CSIDriver V1CSIDriverList V1CSINode V1CSINodeList V1CSIStorageCapacity V1CSIStorageCapacityList "
        "V1StorageClass V1StorageClassList V1VolumeAttachment V1VolumeAttachmentList V1VolumeAttributesClass "
        "V1VolumeAttributesClassList"
    ),
    "storage.k8s.io/v1beta1": "V1beta1VolumeAttributesClass V1beta1VolumeAttributesClassList",
    "storagemigration.k8s.io/v1": "V1StorageVersionMigration V1StorageVersionMigrationList",
    "storagemigration.k8s.io/v1beta1": "V1beta1StorageVersionMigration V1beta1StorageVersionMigrationList",
    "v1": (
        "CoreV1Event CoreV1EventList V1Binding V1ComponentStatus V1ComponentStatusList V1ConfigMap V1ConfigMapList "
        "V1Endpoints V1EndpointsList V1LimitRange V1LimitRangeList V1Namespace V1NamespaceList V1Node V1NodeList "
        "V1PersistentVolume V1PersistentVolumeClaim V1PersistentVolumeClaimList V1PersistentVolumeList V1Pod V1PodList "
        "V1PodTemplate V1PodTemplateList V1ReplicationController V1ReplicationControllerList V1ResourceQuota "
        "V1ResourceQuotaList V1Secret V1SecretList V1Service V1ServiceAccount V1ServiceAccountList V1ServiceList "
        "V1Status"
    ),
}
"""Model classes by ``apiVersion``, separated by blanks."""
