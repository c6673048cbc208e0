use tests::eventually;

use crate::{
    catalog_place::SOON,
    phase,
    place::{HTML, Roles, webhook},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_phase_of_ones_own_takes_the_place_of_another() {
    let mut roles = Roles::new(None).await;
    let url = roles.site.at("/hook");
    roles.change(|record| record.settings.targets.push(webhook("clerks", &url))).await;
    let _working = roles.work_by(&phase::routes());
    for (page, deliveries) in [("<p>one", 0), ("<p>one, amended", 1)] {
        roles.site.put("/page", HTML, page);
        let (_, event) = roles.due().await;
        roles.publish(&event).await;
        eventually("the version's plan", SOON, async || {
            let planned = "select count(*) from versions where planned_at is not null";
            let planned = roles.place.number(planned).await;
            if planned == deliveries + 1 { Ok(()) } else { Err(planned) }
        })
        .await;
        assert_eq!(roles.place.number("select count(*) from deliveries").await, deliveries, "{page}");
    }
}

/// What the documentation shows is what runs.
#[test]
fn the_documentation_shows_this_phase() {
    let document = include_str!("../../docs/extending.md");
    let phase = include_str!("phase.rs").split_once("\n\n").unwrap().1;
    assert!(document.contains(&format!("```rust\n{phase}```\n")), "docs/extending.md shows another phase");
}
