//! A few vectors about something else, among thousands that are alike.

use super::*;

const DIMENSIONS: usize = 48;
/// Vectors of each subject: more than are compared one by one, and then a few; of the last there are some later.
const SIZES: [usize; 9] = [16_000, 4_000, 300, 30, 5, 5, 2, 1, 0];
const LATER: usize = 3;

/// Unit vectors that lie around one for each subject, and whose they are.
struct Subjects {
    random: StdRng,
    centres: Vec<Vec<f32>>,
}

impl Subjects {
    fn of(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let centres = SIZES.iter().map(|_| towards(&mut random, &[], 1.0)).collect();
        Self { random, centres }
    }

    /// A vector about a subject that has something of another in it.
    fn about(&mut self, subject: usize, other: f32, spread: f32) -> Vec<f32> {
        let mixed: Vec<f32> =
            self.centres[subject].iter().zip(&self.centres[0]).map(|(own, first)| own + other * first).collect();
        towards(&mut self.random, &mixed, spread)
    }

    fn vectors(&mut self) -> Vec<Vec<f32>> {
        let mut all: Vec<Vec<f32>> = (0..SIZES.len())
            .flat_map(|subject| std::iter::repeat_n(subject, SIZES[subject]))
            .map(|subject| self.about(subject, 0.0, 0.35))
            .collect();
        // In no order: what comes first has the best links.
        for last in (1..all.len()).rev() {
            all.swap(last, self.random.random_range(0..=last));
        }
        all
    }
}

/// A unit vector near one, in a direction of its own by as much as is said.
fn towards(random: &mut StdRng, vector: &[f32], spread: f32) -> Vec<f32> {
    let mut own: Vec<f32> = (0..DIMENSIONS).map(|_| random.random::<f32>() * 2.0 - 1.0).collect();
    normalise(&mut own);
    let near = vector.iter().chain(std::iter::repeat(&0.0));
    let mut sum: Vec<f32> = own.iter().zip(near).map(|(own, near)| near + spread * own).collect();
    normalise(&mut sum);
    sum
}

/// Of the five nearest to queries about each subject, or of as many as there are, the share that is found.
fn recalls(subjects: &mut Subjects, site: &Site, sizes: [usize; 9]) -> Vec<f32> {
    let recall = |(subject, size): (usize, usize)| {
        let (mut found, mut wanted) = (0, 0);
        for turn in 0..30 {
            // A question has something of what most texts are about, and something of its own.
            let asked = subjects.about(subject, [0.0, 0.3, 0.6][turn % 3], [0.35, 0.7][turn % 2]);
            let expected = nearest(&site.all, &asked, size.min(5), &|_| true);
            let got = site.index.search(&asked, 5, Filter::All).unwrap();
            wanted += expected.len();
            found += expected.iter().filter(|(id, _)| got.iter().any(|(other, _)| other == id)).count();
        }
        found as f32 / wanted.max(1) as f32
    };
    (0..).zip(sizes).filter(|(_, size)| *size > 0).map(recall).collect()
}

#[test]
fn a_few_among_thousands_that_are_alike_are_found() {
    let seed = rand::random();
    println!("seed {seed}");
    let mut subjects = Subjects::of(seed);
    let mut site = Site::of(subjects.vectors());
    let found = recalls(&mut subjects, &site, SIZES);
    println!("{found:?}");
    // Of the many, some of those that are all but equally near are missed, as in any graph.
    assert!(found.iter().all(|found| *found > 0.75) && found[2..].iter().all(|found| *found > 0.9), "{found:?}");

    // Others of the many come and go, and with them some about what nothing was about before.
    for at in 0..700 {
        site.remove(3 * at);
        let subject = if at % 250 == 7 { SIZES.len() - 1 } else { 0 };
        site.insert(100_000 + at, &subjects.about(subject, 0.0, 0.35));
    }
    site.merge();
    let mut sizes = SIZES;
    sizes[SIZES.len() - 1] = LATER;
    sizes[4..8].fill(0);
    let found = recalls(&mut subjects, &site, sizes);
    println!("{found:?}");
    assert!(found.iter().all(|found| *found > 0.75) && found[2..].iter().all(|found| *found > 0.9), "{found:?}");
}

/// More small subjects than there are landmarks in any case.
const MANY: usize = 600;

#[test]
fn each_of_many_small_subjects_is_found_by_its_own_vectors() {
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut around = |count: usize| {
        let centre = towards(&mut random, &[], 1.0);
        (0..count).map(|_| towards(&mut random, &centre, 0.35)).collect::<Vec<_>>()
    };
    let mut all = around(25_000);
    let many = all.len();
    all.extend((0..MANY).flat_map(|subject| around(3 + subject % 3)));
    let index = merged(&all);
    let is_lost = |(id, vector): &(u64, &[f32])| {
        index.search(vector, 5, Filter::All).unwrap().iter().all(|(found, _)| found != id)
    };
    let vectors = (0..).zip(all.iter().map(Vec::as_slice));
    let lost: Vec<u64> = vectors.skip(many).filter(is_lost).map(|(id, _)| id).collect();
    println!("{} landmarks, {} of {} lost", landmarks(&index), lost.len(), all.len() - many);
    assert!(lost.is_empty(), "{lost:?}");
}

fn merged(all: &[Vec<f32>]) -> Index {
    let folder = tempfile::tempdir().unwrap();
    let mut merge = Merge::of(DIMENSIONS, EMBEDDER, (0..).zip(all.iter().map(Vec::as_slice))).unwrap();
    while merge.step(100).unwrap() {}
    Index::of(merge.finish(&folder.path().join("many.index")).unwrap())
}

fn landmarks(index: &Index) -> usize {
    index.flat.as_ref().unwrap().net().landmarks.len()
}

/// More of one vector than a walk keeps, such as the footers of pages.
#[test]
fn equal_vectors_take_no_landmarks_from_those_that_are_not_found() {
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    // So many subjects that the landmarks of any index do not cover these.
    let mut all: Vec<Vec<f32>> = (0..24_000).map(|_| towards(&mut random, &[], 1.0)).collect();
    let mut footer = towards(&mut random, &[], 1.0);
    footer.iter_mut().zip(&all[0]).for_each(|(own, near)| *own = 0.4 * *own + *near);
    normalise(&mut footer);
    all.extend(std::iter::repeat_n(footer, 1_000));
    let of_footers = merged(&all);
    let of_others = merged(&all[..24_000]);
    let more = landmarks(&of_footers).saturating_sub(landmarks(&of_others));
    println!("{} and {} landmarks", landmarks(&of_footers), landmarks(&of_others));
    assert!(more < 32, "{more} more landmarks for 1,000 equal vectors");
}
