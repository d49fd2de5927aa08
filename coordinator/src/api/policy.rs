//! Who may call what: one entry for every RPC there is, checked against the descriptors by a test. What has no
//! entry does not exist.

use hoist_domain::Role;

/// What an RPC needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Policy {
    pub(super) role: Role,
    pub(super) lane: Lane,
}

/// Which bound a call counts against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// Calls in flight.
    Call,
    /// Waits for something to end: many may, for long; bounded by the streams of a connection.
    Wait,
    /// Watches; their own bound is in the watcher.
    Stream,
    /// Leases: open as long as somebody relies on them; their own bound is the planner's.
    Lease,
    /// Never refused: supervisors and operators look here when everything else is full.
    Vital,
}

const fn policy(role: Role, lane: Lane) -> Policy {
    Policy { role, lane }
}

/// Of the contract between a server and its workers: not for clients, so reflection does not tell of it.
const WORKER_SESSION: &str = "/hoist.worker.v1.WorkerService/Session";

const TABLE: &[(&str, Policy)] = &[
    ("/hoist.api.v1.StateService/GetStatus", policy(Role::Viewer, Lane::Call)),
    ("/hoist.api.v1.StateService/BatchGetStatus", policy(Role::Viewer, Lane::Call)),
    ("/hoist.api.v1.StateService/Watch", policy(Role::Viewer, Lane::Stream)),
    ("/hoist.api.v1.AdminService/GetConfig", policy(Role::Viewer, Lane::Call)),
    ("/hoist.api.v1.AdminService/Shutdown", policy(Role::Admin, Lane::Vital)),
    ("/hoist.api.v1.AdminService/ProbeMachine", policy(Role::Operator, Lane::Wait)),
    ("/hoist.api.v1.CatalogService/ListModels", policy(Role::Viewer, Lane::Call)),
    ("/hoist.api.v1.CatalogService/GetModel", policy(Role::Viewer, Lane::Call)),
    ("/hoist.api.v1.CatalogService/UpdateModel", policy(Role::Operator, Lane::Call)),
    ("/hoist.api.v1.CatalogService/DeleteModel", policy(Role::Operator, Lane::Call)),
    ("/hoist.api.v1.CatalogService/ScanModels", policy(Role::Operator, Lane::Wait)),
    ("/hoist.api.v1.CatalogService/DigestModels", policy(Role::Operator, Lane::Wait)),
    ("/hoist.api.v1.CatalogService/ListRoots", policy(Role::Viewer, Lane::Call)),
    ("/hoist.api.v1.CatalogService/ListComponents", policy(Role::Viewer, Lane::Call)),
    ("/hoist.api.v1.IntegrityService/ValidateModel", policy(Role::Operator, Lane::Wait)),
    ("/hoist.api.v1.IntegrityService/ListVerdicts", policy(Role::Viewer, Lane::Call)),
    ("/hoist.api.v1.CacheService/CacheModel", policy(Role::Operator, Lane::Wait)),
    ("/hoist.api.v1.CacheService/EvictModel", policy(Role::Operator, Lane::Call)),
    ("/hoist.api.v1.CacheService/GetCache", policy(Role::Viewer, Lane::Call)),
    ("/hoist.api.v1.CacheService/ListSegments", policy(Role::Viewer, Lane::Call)),
    ("/hoist.api.v1.CacheService/PinModel", policy(Role::Operator, Lane::Call)),
    ("/hoist.api.v1.CacheService/UnpinModel", policy(Role::Operator, Lane::Call)),
    ("/hoist.api.v1.CacheService/UpdateCachePolicy", policy(Role::Operator, Lane::Call)),
    ("/hoist.api.v1.LeaseService/Acquire", policy(Role::Operator, Lane::Lease)),
    ("/hoist.api.v1.LeaseService/ListLeases", policy(Role::Viewer, Lane::Call)),
    ("/hoist.api.v1.LeaseService/RevokeLease", policy(Role::Operator, Lane::Call)),
    ("/hoist.api.v1.DeviceService/ListDevices", policy(Role::Viewer, Lane::Call)),
    ("/hoist.api.v1.DeviceService/GetDevice", policy(Role::Viewer, Lane::Call)),
    ("/hoist.api.v1.DeviceService/CordonDevice", policy(Role::Operator, Lane::Call)),
    ("/hoist.api.v1.DeviceService/UncordonDevice", policy(Role::Operator, Lane::Call)),
    ("/hoist.api.v1.StateService/GetSyncHealth", policy(Role::Viewer, Lane::Call)),
    ("/hoist.api.v1.StateService/DiagnoseSync", policy(Role::Viewer, Lane::Call)),
    ("/hoist.api.v1.StateService/ResetSync", policy(Role::Operator, Lane::Wait)),
    ("/hoist.api.v1.StateService/ConfigureSync", policy(Role::Operator, Lane::Call)),
    ("/hoist.api.v1.ResidencyService/LoadModel", policy(Role::Operator, Lane::Wait)),
    ("/hoist.api.v1.ResidencyService/LoadComponents", policy(Role::Operator, Lane::Wait)),
    ("/hoist.api.v1.ResidencyService/UnloadModel", policy(Role::Operator, Lane::Wait)),
    ("/hoist.api.v1.ResidencyService/UnloadComponents", policy(Role::Operator, Lane::Wait)),
    ("/hoist.api.v1.ResidencyService/PlanLoad", policy(Role::Viewer, Lane::Call)),
    ("/hoist.api.v1.ResidencyService/EstimateLoad", policy(Role::Viewer, Lane::Call)),
    ("/hoist.api.v1.ResidencyService/ListReplicas", policy(Role::Viewer, Lane::Call)),
    ("/hoist.api.v1.ResidencyService/VerifyReplicas", policy(Role::Operator, Lane::Wait)),
    (WORKER_SESSION, policy(Role::Admin, Lane::Lease)),
    ("/google.longrunning.Operations/ListOperations", policy(Role::Viewer, Lane::Call)),
    ("/google.longrunning.Operations/GetOperation", policy(Role::Viewer, Lane::Call)),
    ("/google.longrunning.Operations/DeleteOperation", policy(Role::Operator, Lane::Call)),
    ("/google.longrunning.Operations/CancelOperation", policy(Role::Operator, Lane::Call)),
    ("/google.longrunning.Operations/WaitOperation", policy(Role::Viewer, Lane::Wait)),
    ("/grpc.health.v1.Health/Check", policy(Role::Viewer, Lane::Vital)),
    ("/grpc.health.v1.Health/Watch", policy(Role::Viewer, Lane::Vital)),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", policy(Role::Viewer, Lane::Vital)),
    ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", policy(Role::Viewer, Lane::Vital)),
];

/// The policy of a method, by its path, with the path in a form that lives for ever.
pub(super) fn of(path: &str) -> Option<(&'static str, Policy)> {
    TABLE.iter().find(|(known, _)| *known == path).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;
    use prost_types::FileDescriptorSet;
    use std::collections::BTreeSet;

    fn methods() -> BTreeSet<String> {
        [
            hoist_wire::FILE_DESCRIPTOR_SET,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ]
        .iter()
        .flat_map(|set| FileDescriptorSet::decode(*set).unwrap().file)
        .flat_map(|file| {
            let package = file.package().to_owned();
            file.service.into_iter().flat_map(move |service| {
                let prefix = format!("/{package}.{}/", service.name());
                service.method.into_iter().map(move |method| format!("{prefix}{}", method.name()))
            })
        })
        .collect()
    }

    #[test]
    fn every_rpc_has_exactly_one_policy_and_every_policy_an_rpc() {
        let listed: Vec<String> = TABLE.iter().map(|(path, _)| (*path).to_owned()).collect();
        let unique: BTreeSet<String> = listed.iter().cloned().collect();
        assert_eq!(unique.len(), listed.len());
        let public = unique.into_iter().filter(|path| path != WORKER_SESSION).collect::<BTreeSet<_>>();
        assert_eq!(public, methods());
    }

    #[test]
    fn only_the_owner_stops_the_server() {
        use hoist_domain::Principal;
        let allowed = |principal: Principal, path| of(path).is_some_and(|(_, p)| principal.role() >= p.role);
        for (path, policy) in TABLE {
            assert_eq!(allowed(Principal::Loopback, path), policy.role < Role::Admin, "{path}");
            assert!(allowed(Principal::Uid(1), path), "{path}");
        }
        assert!(!allowed(Principal::Loopback, "/hoist.api.v1.AdminService/Shutdown"));
    }
}
