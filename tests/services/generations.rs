//! Results of a new pipeline that take the place of the old ones in two stores at once.

use crate::pipeline::{Pipeline, tomorrow, wait_until};
use crate::services::variable;
use crate::stores::Stores;
use crate::table::{effort, passed};
use crate::world::{Running, World, events, mysql_database, stderr, was_killed};
use std::fs;
use std::path::Path;

/// Where a run dies, and what is going on there.
const PLACES: [(&str, &str); 5] = [
    ("sink.promoted:1", "one store shows the new results, the other the old ones"),
    ("state.replaced:1", "both show the new ones, and the old state is to be deleted"),
    ("sink.promote:1", "a store is about to show the new results"),
    ("sink.promote:2", "the second store is"),
    ("sink.promoted:2", "both show the new ones, and the run does not know yet"),
];

fn generations(state: &Path) -> usize {
    let names = fs::read_dir(state).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("generation-")).count()
}

#[test]
fn wherever_a_run_dies_that_replaces_results_all_stores_end_with_the_new_ones() {
    let (Some(brokers), Some(mysql)) = (variable("EDDYLINE_TEST_KAFKA"), variable("EDDYLINE_TEST_MYSQL")) else {
        return;
    };
    let world = World::of(&brokers, Pipeline::generated_with(events(), 2, &["--start", &tomorrow()]));
    for (place, what) in PLACES.into_iter().take(if effort() == 1 { 2 } else { PLACES.len() }) {
        let target = world.target(Stores { mysql: Some(mysql_database(&mysql)), ..world.embedded() });
        let (old, idle) = (["--set", "popular.top=3"], ["--set", "time.idle=1s"]);
        let mut run = Running::spawn(target.run_on().args(old).args(idle));
        wait_until("the old results", || {
            run.goes_on();
            target.stores.records() >= events() as u64
        });
        run.terminate();
        run.succeed();
        let mut new = target.run_on();
        let killed =
            new.args(["--new-generation", "-w", "2"]).args(idle).env("EDDYLINE_FAULT", place).output().unwrap();
        assert!(was_killed(&killed), "no run came to {place}: {}", stderr(&killed));
        assert!(generations(target.state()) >= 1);
        // As it was started, by whoever watches over it.
        let mut run = Running::spawn(target.run_on().arg("--new-generation").args(idle));
        wait_until("the end of the old state", || {
            run.goes_on();
            generations(target.state()) == 1
        });
        run.terminate();
        run.succeed();
        let output = target.run().args(idle).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        target.check(place);
        let label = place.rsplit_once(':').map_or(place, |(label, _)| label);
        passed(&format!("kill -9 at `{label}` of a run with `--new-generation`"), 1, what);
    }
}
