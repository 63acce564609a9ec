//! Whether the user of the kubeconfig has the rights that deploy, verify and validate need, asked by `SelfSubjectAccessReview`.

use std::collections::BTreeSet;

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use kube::api::{Api, PostParams};
use vcmanifests::Object;

use super::{AT_ONCE, Check, Finding};
use crate::cluster::{self, Cluster};
use crate::push::report::one_line;
use crate::rights::{Grant, Right, Task, granted, required};

/// The commands whose rights an installation needs.
const TASKS: [Task; 4] = [Task::Deploy, Task::Verify, Task::Nodes, Task::Validate];

const REMEDY: &str =
    "have a cluster administrator apply what `vcdist rbac` prints, or choose another --kubeconfig or --context";

pub(super) async fn check(cluster: &Cluster, objects: &[Object], namespace: &str) -> Check {
    match ask(cluster, objects, namespace).await {
        Ok((count, findings)) => {
            Check::of("rights", format!("{count} rights of deploy, verify and validate"), findings)
        }
        Err(error) => Check::skipped("rights", one_line(&error)),
    }
}

async fn ask(cluster: &Cluster, objects: &[Object], namespace: &str) -> Result<(usize, Vec<Finding>), cluster::Error> {
    let needed = required(objects, namespace, &TASKS);
    let grants = granted(objects);
    let escalations = grants.iter().map(escalation).collect::<BTreeSet<Right>>();
    let may_grant = lacking(cluster, escalations.clone()).await?;
    // Whoever may not grant everything must hold what each role grants.
    let held = grants.iter().filter(|grant| may_grant.contains(&escalation(grant))).flat_map(Grant::rights);
    let held: BTreeSet<Right> = held.collect();
    let count = needed.union(&held).count();
    let mut findings: Vec<Finding> = lacking(cluster, needed)
        .await?
        .into_iter()
        .map(|right| Finding::error(right.to_string(), "this user lacks the right", effect(&right), REMEDY))
        .collect();
    let lacking = lacking(cluster, held).await?;
    for role in grants.iter().map(|grant| &grant.role).collect::<BTreeSet<_>>() {
        let of_role = grants.iter().filter(|grant| grant.role == *role).flat_map(Grant::rights);
        let missing: Vec<String> =
            of_role.filter(|right| lacking.contains(right)).map(|right| right.to_string()).collect();
        if !missing.is_empty() {
            findings.push(Finding::error(
                role,
                format!("it grants rights that this user lacks: {}", some(&missing)),
                "the API server refuses the role: nobody may grant what they do not hold",
                REMEDY,
            ));
        }
    }
    Ok((count, findings))
}

/// The right to put anything into this role.
fn escalation(grant: &Grant) -> Right {
    let (kind, name) = grant.role.split_once('/').unwrap_or((&grant.role, ""));
    Right {
        group: "rbac.authorization.k8s.io".to_owned(),
        resource: format!("{kind}s"),
        verb: "escalate".to_owned(),
        namespace: grant.namespace.clone(),
        name: Some(name.to_owned()),
    }
}

/// Those of `rights` that the user lacks.
async fn lacking(cluster: &Cluster, rights: BTreeSet<Right>) -> Result<BTreeSet<Right>, cluster::Error> {
    let answers = stream::iter(rights).map(|right| async move {
        let allowed = is_allowed(cluster, &right).await?;
        Ok::<_, cluster::Error>((!allowed).then_some(right))
    });
    let answers: Vec<Option<Right>> = answers.buffered(AT_ONCE).try_collect().await?;
    Ok(answers.into_iter().flatten().collect())
}

async fn is_allowed(cluster: &Cluster, right: &Right) -> Result<bool, cluster::Error> {
    let (resource, subresource) = match right.resource.split_once('/') {
        Some((resource, subresource)) => (resource, Some(subresource.to_owned())),
        None => (right.resource.as_str(), None),
    };
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                group: Some(right.group.clone()),
                resource: Some(resource.to_owned()),
                subresource,
                verb: Some(right.verb.clone()),
                namespace: right.namespace.clone(),
                name: right.name.clone(),
                ..ResourceAttributes::default()
            }),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let api: Api<SelfSubjectAccessReview> = Api::all(cluster.client());
    let answer = api.create(&PostParams::default(), &review).await;
    let answer = answer.map_err(|error| cluster.failed(format!("asking whether this user may {right}"), error))?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

/// What fails without a right.
fn effect(right: &Right) -> String {
    let what = match right.verb.as_str() {
        "create" if right.resource == "pods" => "vcdist validate cannot ask whether pods would be admitted",
        "get" | "list" | "watch" => "vcdist cannot read what it has to compare or wait for",
        _ => "vcdist deploy ends with an error",
    };
    what.to_owned()
}

/// The first of many, and how many more there are.
fn some(all: &[String]) -> String {
    const SHOWN: usize = 5;
    let more = if all.len() > SHOWN { format!(", and {} more", all.len() - SHOWN) } else { String::new() };
    format!("{}{more}", all[..all.len().min(SHOWN)].join(", "))
}
