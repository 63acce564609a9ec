//! The steps of a run, each one function: what it does, or would do.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use tokio_util::sync::CancellationToken;
use vcmanifests::{Architectures, Component, Images, Object, Parameters, Stage};
use vcstore::{Image, Store};
use vcterminal::Output;

use super::wishes::Wishes;
use super::{Error, Run};
use crate::cli::changes;
use crate::cli::images::find_in;
use crate::cli::nodes::Ssh;
use crate::cli::progress::Progress;
use crate::cluster::Cluster;
use crate::detect;
use crate::images::push_label::Time;
use crate::images::unpacked_size;
use crate::manifests::Manifests;
use crate::nodes;
use crate::push::{self, report};
use crate::rollout::{self, Change, Outcomes, Part, Permissions, Plan, Release, Rollout, images};
use crate::run::source::Source;
use crate::run::{Ending, Step, vcbuild, workers};
use crate::runtime::UseHelper;
use crate::session::Binary;
use crate::transport;
use crate::validate::{OnNodes, Validation};
use crate::verify::{fetch, verify};

/// A run under way.
pub(super) struct Flow<'a> {
    pub(super) run: &'a Run,
    pub(super) wishes: &'a Wishes,
    pub(super) cluster: &'a Cluster,
    pub(super) ssh: &'a Ssh,
    /// What the rollout does, once it is known.
    plan: Option<Plan>,
    /// Whether workloads have just been changed, so that checks may need a moment to pass.
    is_settling: bool,
}

/// The release of the objects of virtualcluster_all_in_one_manifest_path.
const RELEASE_OF_FILE: &str = "virtualcluster";

/// For how long checks are repeated after workloads were changed.
const SETTLE: Duration = Duration::from_secs(30);

/// The interval at which they are repeated.
const LOOK: Duration = Duration::from_secs(2);

impl<'a> Flow<'a> {
    pub(super) fn new(run: &'a Run, wishes: &'a Wishes, cluster: &'a Cluster, ssh: &'a Ssh) -> Self {
        Self { run, wishes, cluster, ssh, plan: None, is_settling: false }
    }

    /// Takes a step, or says what it would do.
    pub(super) async fn step(&mut self, step: Step) -> Result<Ending, Error> {
        match step {
            Step::Validate => self.validate().await,
            Step::Detect => self.detect().await,
            Step::Build => self.build().await,
            Step::Distribute => self.distribute().await,
            Step::Namespace => self.roll_out(Part::Namespace).await,
            Step::Crds => self.roll_out(Part::Definitions).await,
            Step::Workloads => self.roll_out(Part::Rest).await,
            Step::Verify => self.verify().await,
        }
    }

    async fn validate(&self) -> Result<Ending, Error> {
        let manifests = &self.run.manifests;
        let found = images::resolve_as(manifests.given(), manifests.named(), &self.wishes.names, &manifests.store());
        let parameters = match found {
            Ok((images, architectures)) => Some(self.parameters(images, architectures)?),
            // They are yet to be built.
            Err(_) => images::without_images(self.wishes.namespace.clone()),
        };
        let objects = parameters.map(|parameters| vcmanifests::objects(&parameters)).unwrap_or_default();
        let (binary, settings) = (Binary::this()?, self.run.containerd.settings(self.ssh));
        let ssh = self.ssh.options();
        let on_nodes = OnNodes {
            nodes: None,
            ssh: &ssh,
            binary: &binary,
            settings: &settings,
            push: None,
            parallel: self.run.parallel.get(),
            retries: self.wishes.retries,
        };
        let (namespace, choice) = (&self.wishes.namespace, &self.wishes.choice);
        let validation = Validation { namespace, objects: &objects, choice, on_nodes: Some(on_nodes) };
        // Where there is no worker yet, one is waited for.
        self.nodes().await?;
        let report = validation.run(self.cluster, |check| tracing::info!("checking {check}")).await;
        if report.checks.iter().any(|check| !check.findings.is_empty()) {
            vcterminal::say_text(&report.text());
        }
        if !report.passed {
            return Err(Error::Validate);
        }
        Ok(Ending::Unchanged(format!("{} checks found no error", report.checks.len())))
    }

    async fn detect(&self) -> Result<Ending, Error> {
        let detected = detect::detect(self.cluster).await?;
        let images: Vec<&str> = detected.images.iter().map(|found| found.image.as_str()).collect();
        let images = images.join(", ");
        let is_concluded = detected.images.iter().all(|found| found.source == detect::Origin::Version);
        Ok(Ending::Unchanged(match is_concluded {
            true => format!("{images} (by the version {}: the control plane has no pods)", detected.server_version),
            false => images,
        }))
    }

    async fn build(&self) -> Result<Ending, Error> {
        let path = self.run.manifests.store();
        match &self.wishes.source {
            Source::Store(why) => Ok(Ending::Skipped(why.clone())),
            Source::Archives(archives) | Source::Cache(archives) => {
                let of =
                    if matches!(self.wishes.source, Source::Cache(_)) { "the cache's archives" } else { "archives" };
                let names: Vec<&str> = archives.iter().map(|(_, path)| path.as_str()).collect();
                let what = format!("images come from {of} {}", names.join(", "));
                if self.run.plan {
                    return Ok(Ending::WouldChange(what));
                }
                let store = Store::open(&path)?;
                let mut changed = false;
                for (component, archive) in archives {
                    let before = store.images()?;
                    let found = find_in(&store, std::slice::from_ref(&archive.to_string()))?;
                    changed |= found.iter().any(|image| before.get(&image.name) != Some(&image.target));
                    let Some(component) = component else { continue };
                    let [image] = found.as_slice() else {
                        return Err(Error::NotOne { archive: archive.clone(), count: found.len() });
                    };
                    changed |= self.named(&store, *component, image)?;
                }
                Ok(ended(changed, what))
            }
            Source::Build(arguments) => {
                let line = vcbuild::command_line(arguments);
                if self.run.plan {
                    return Ok(Ending::WouldChange(format!("would run {line}")));
                }
                let before = tagged(&path);
                let built = vcbuild::build(arguments, &path, self.wishes.build_timeout).await?;
                let store = Store::open(&path)?;
                let mut changed = false;
                for built in &built.images {
                    let image = store.image(&built.reference)?;
                    changed |= before.get(&image.name) != Some(&image.target);
                    if let Ok(component) = built.component.parse::<Component>() {
                        changed |= self.named(&store, component, &image)?;
                    }
                }
                Ok(ended(changed, line))
            }
        }
    }

    /// Has the name that is wanted for a component's image stand for this one. Whether it did not before.
    fn named(&self, store: &Store, component: Component, image: &Image) -> Result<bool, Error> {
        let Some(name) = self.wishes.names.get(&component) else { return Ok(false) };
        let is_there = store.images()?.get(name) == Some(&image.target);
        if !is_there {
            store.tag(name, &image.target)?;
        }
        Ok(!is_there)
    }

    async fn distribute(&self) -> Result<Ending, Error> {
        let names = self.names();
        if names.is_empty() {
            return Ok(Ending::Skipped("--image names what the nodes have".to_owned()));
        }
        let path = self.run.manifests.store();
        if !path.join("oci-layout").exists() {
            return self.not_built(crate::cli::images::Error::NoStore { path }.into());
        }
        let store = Store::open_to_give(&path)?;
        let images = match find_in(&store, &names) {
            Ok(images) => images,
            Err(error) => return self.not_built(error.into()),
        };
        let push = push::Push {
            store,
            images,
            binary: Binary::this()?,
            settings: self.run.containerd.settings(self.ssh),
            parallel: self.run.parallel.get(),
            retries: self.wishes.retries,
            helper: UseHelper::default(),
            unpacked_sizes: unpacked_size::KnownSizes::default(),
            rate: None,
            connections: None,
            rate_per_node: None,
            at: Time::now(),
            dry_run: self.run.plan,
        };
        let nodes = workers::wait(|| nodes::from_api(self.cluster, &self.wishes.choice), self.patience()).await?;
        let cancel = CancellationToken::new();
        let (progress, ssh, begun) = (Progress::new(self.run.output), self.ssh.options(), Instant::now());
        let outcomes = tokio::select! {
            outcomes = push.run(
                nodes,
                |node| transport::to_node(node, &ssh),
                |node, event| progress.show(node, event),
                &cancel,
            ) => outcomes,
            never = progress.draw() => match never {},
        };
        progress.end();
        for error in report::errors(&outcomes, self.run.plan) {
            vcterminal::report(&error);
        }
        let failed = outcomes.iter().filter(|outcome| outcome.error.is_some()).count();
        if failed > 0 {
            return Err(Error::Push { failed, all: outcomes.len(), exit: report::exit(&outcomes) });
        }
        if self.run.plan {
            let needed = report::PlanReport::new(&outcomes).bytes_needed;
            let detail = format!("{} to send to {} nodes", vcterminal::bytes(needed), outcomes.len());
            return Ok(if needed > 0 { Ending::WouldChange(detail) } else { Ending::Unchanged(detail) });
        }
        let pushed = report::PushReport::new(&outcomes, begun.elapsed());
        let changed = pushed.nodes.iter().any(|node| node.result != report::NodeResult::UpToDate);
        let sent = vcterminal::bytes(pushed.bytes_sent);
        Ok(ended(changed, format!("{} images on {} nodes, {sent} sent", names.len(), outcomes.len())))
    }

    /// What a plan says where the images are yet to be built; otherwise the error.
    fn not_built(&self, error: Error) -> Result<Ending, Error> {
        let is_to_come = !matches!(self.wishes.source, Source::Store(_));
        if self.run.plan && is_to_come {
            return Ok(Ending::WouldChange("known once the images are in the store".to_owned()));
        }
        Err(error)
    }

    /// The names of the images that are pushed.
    fn names(&self) -> Vec<String> {
        let given = self.run.manifests.given();
        let is_given = |component: Component| given.iter().any(|(other, _)| *other == component);
        let named = self.run.manifests.named();
        let of = |component: Component| {
            let own = named.iter().find(|name| Component::of_image(name) == Some(component));
            let wanted = self.wishes.names.get(&component);
            own.or(wanted).cloned().unwrap_or_else(|| component.name().to_owned())
        };
        Component::ALL.into_iter().filter(|component| !is_given(*component)).map(of).collect()
    }

    fn patience(&self) -> workers::Patience {
        if self.run.plan { workers::Patience::default() } else { self.wishes.patience }
    }

    async fn nodes(&self) -> Result<Vec<nodes::Node>, Error> {
        let patience = workers::Patience { until_ready: Duration::ZERO, must_be_ready: false, ..self.patience() };
        Ok(workers::wait(|| nodes::from_api(self.cluster, &self.wishes.choice), patience).await?)
    }

    async fn roll_out(&mut self, part: Part) -> Result<Ending, Error> {
        let (part, of_file) = match &self.wishes.manifest {
            Some(path) if part == Part::Rest => (Part::All, Some(path)),
            _ => (part, None),
        };
        let makes_namespace = |plan: &Plan| {
            plan.steps.iter().any(|step| step.object.stage() == Stage::Namespace && step.change == Change::Created)
        };
        if let (true, Some(path)) = (self.run.plan, of_file)
            && self.plan.as_ref().is_some_and(makes_namespace)
        {
            return Ok(Ending::WouldChange(format!("the objects of {path}, known once the namespace exists")));
        }
        let known = if of_file.is_some() { None } else { self.plan.take() };
        let planned = async || match of_file {
            Some(path) => self.plan_of_file(path).await,
            None => self.rollout_plan().await,
        };
        let plan = match known {
            Some(plan) => plan,
            None => match planned().await {
                Ok(plan) => plan,
                Err(error @ Error::Components(_)) => return self.not_built(error),
                Err(error) => return Err(error),
            },
        };
        let plan = &*self.plan.insert(plan);
        let text = self.run.output == Output::Text;
        let steps: Vec<_> = plan.steps.iter().filter(|step| part.has(step.object.stage())).collect();
        let removals = if part.has(Stage::Workloads) { plan.removals.len() } else { 0 };
        let (all, differing) = (steps.len(), steps.iter().filter(|step| !step.settled).count() + removals);
        if self.run.plan {
            for step in steps.iter().filter(|step| step.change != Change::Unchanged) {
                changes::show(rollout::Progress::Applied(step), text);
            }
            if removals > 0 {
                plan.removals.iter().for_each(|removal| changes::show(rollout::Progress::Removed(removal), text));
            }
            let detail = format!("{differing} of {} objects would change", all + removals);
            return Ok(if differing > 0 { Ending::WouldChange(detail) } else { Ending::Unchanged(detail) });
        }
        let mut outcomes = Outcomes::default();
        let is_told = |progress: &rollout::Progress<'_>| match progress {
            rollout::Progress::Applied(step) => step.change != Change::Unchanged,
            _ => true,
        };
        let mut woken = 0;
        let show = |progress: rollout::Progress<'_>| {
            woken += usize::from(matches!(progress, rollout::Progress::Woken(_)));
            if is_told(&progress) {
                changes::show(progress, text);
            }
        };
        let rollout = Rollout {
            force_conflicts: self.run.force_conflicts,
            recreate: self.run.recreate,
            timeout: self.run.timeout,
            rollback_to: None,
            part,
            cancel: CancellationToken::new(),
        };
        rollout::run(self.cluster, plan, &rollout, &mut outcomes, show).await?;
        let revision = outcomes.revision.map(|revision| format!(", revision {revision}")).unwrap_or_default();
        let changed = differing + outcomes.restarted.len() + woken > 0;
        self.is_settling |= changed && part.has(Stage::Workloads);
        Ok(ended(changed, format!("{differing} of {} objects changed{revision}", all + removals)))
    }

    async fn rollout_plan(&self) -> Result<Plan, Error> {
        let manifests = &self.run.manifests;
        if let Some(path) = &self.wishes.manifest {
            // Of vcdist's own objects, the namespace and the definitions are left, which need no image.
            let parameters = images::without_images(self.wishes.namespace.clone());
            let of_file = self.objects_of_file(path).await?;
            let is_in_file = |object: &Object| of_file.iter().any(|one| rollout::title(one) == rollout::title(object));
            let mut objects = parameters.map(|parameters| vcmanifests::objects(&parameters)).unwrap_or_default();
            objects.retain(|object| object.stage() <= Stage::Definitions && !is_in_file(object));
            return Ok(rollout::plan(self.cluster, objects, self.permissions()).await?);
        }
        let (images, architectures) =
            images::resolve_as(manifests.given(), manifests.named(), &self.wishes.names, &manifests.store())?;
        let parameters = self.parameters(images, architectures)?;
        manifests.check_nodes(self.cluster).await?;
        Ok(rollout::plan(self.cluster, vcmanifests::objects(&parameters), self.permissions()).await?)
    }

    /// What rolling out the objects of a file does.
    async fn plan_of_file(&self, path: &Utf8PathBuf) -> Result<Plan, Error> {
        let objects = self.objects_of_file(path).await?;
        Ok(rollout::plan(self.cluster, objects, self.permissions()).await?)
    }

    /// The objects of a file, as a release beside the namespace and the definitions.
    async fn objects_of_file(&self, path: &Utf8PathBuf) -> Result<Vec<Object>, Error> {
        let manifests = Manifests::read(std::slice::from_ref(path), &self.run.manifests.store())?;
        let release = Release::new(&self.wishes.namespace, Some(RELEASE_OF_FILE));
        Ok(manifests.objects(self.cluster, &release).await?)
    }

    fn permissions(&self) -> Permissions {
        Permissions { force_conflicts: self.run.force_conflicts, prune_definitions: false }
    }

    /// What the objects are made from, with these images.
    fn parameters(&self, images: Images, architectures: Architectures) -> Result<Parameters, Error> {
        let mut parameters = self.run.manifests.parameters(images, architectures, &self.wishes.values)?;
        parameters.namespace.clone_from(&self.wishes.namespace);
        Ok(parameters)
    }

    async fn verify(&self) -> Result<Ending, Error> {
        if self.run.plan {
            return Ok(Ending::Skipped("it checks what runs after the other steps".to_owned()));
        }
        let (choice, deadline) = (self.run.manifests.choice(), Instant::now() + SETTLE);
        let report = loop {
            let snapshot = fetch(self.cluster, &self.wishes.namespace).await?;
            choice.check(&snapshot.nodes)?;
            let report = verify(&snapshot, super::SINCE, &choice);
            if report.passed || !self.is_settling || Instant::now() > deadline {
                break report;
            }
            tokio::time::sleep(LOOK).await;
        };
        if !report.passed {
            vcterminal::say_text(&report.text());
            let failed = report.checks.iter().filter(|check| !check.passed).map(|check| check.name);
            return Err(Error::Verify { checks: failed.collect() });
        }
        Ok(Ending::Unchanged(format!("all {} checks passed", report.checks.len())))
    }
}

fn ended(changed: bool, detail: String) -> Ending {
    if changed { Ending::Changed(detail) } else { Ending::Unchanged(detail) }
}

/// The images of a store by name; none if there is no store.
fn tagged(path: &Utf8Path) -> BTreeMap<String, oci_spec::image::Descriptor> {
    let open = || Store::open_to_give(path).ok()?.images().ok();
    let found = path.join("oci-layout").exists().then(open).flatten();
    found.map(|images| images.into_iter().collect()).unwrap_or_default()
}
