"""How close a filled scan comes to the same head without lesions, and what leaving them or filling with a mean would give.

    python tests/benchmarks/measure_filling.py HEADS MASKS [--side held_out] [--scans 16] [--csv FILE] [--pictures FOLDER]

Each synthetic scan is made twice from one record, once without painting its lesions: head, scanner and noise are the same. The
error is the root mean square over the lesions of the difference to the scan without lesions, in percent of its white matter:

    filled   `fill_lesions`, with the registration of the scan to MNI space
    mean     the mean of the brain within 5 mm of the lesions
    left     the scan as it is

`_bias` is the mean of that difference. `_white` is the difference of the share of the lesion that is as bright as white matter
(brighter than the mean of white and gray matter), in percent points.

Scans whose lesions are refused are counted and left out. A picture shows the scan, the filled one and the one without lesions.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from candidates.bundle import configured
from monai.data import MetaTensor
from PIL import Image

from strokelesion.networks import UserError
from strokelesion.transforms.filling import fill_lesions
from strokelesion.transforms.geometry import distances_mm, voxel_ml
from strokelesion.transforms.registration import register_brain
from strokelesion.transforms.synthesis import RandPaintLesionsd, SeededRecipe, Tissue

SURROUNDINGS_MM = 5.0
SIZES_ML = (0, 1, 5, 20, 80, np.inf)


class Unpainted(RandPaintLesionsd):
    """Keep the head without its lesions; as a transform of the same kind it leaves the seeds of all others as they are."""

    def __call__(self, data: Any) -> Any:
        """Return the sample as it is."""
        return dict(data)


def without_lesions(recipe: SeededRecipe) -> SeededRecipe:
    """Return the same transforms, which paint no lesions."""
    return SeededRecipe([Unpainted() if isinstance(one, RandPaintLesionsd) else one for one in recipe.chain.transforms])


def mean_filled(image: torch.Tensor, lesion: torch.Tensor, brain: torch.Tensor) -> torch.Tensor:
    """Return an image `(1, X, Y, Z)` of 1 mm with the mean of the brain around the lesion in it."""
    around = (distances_mm(lesion[0], (1, 1, 1)) <= SURROUNDINGS_MM)[None] & brain & ~lesion
    return torch.where(lesion, image[around].mean(), image)


def measure(record: dict[str, Any], recipes: tuple[SeededRecipe, SeededRecipe], picture: Path | None) -> dict[str, Any]:
    """Return the errors of one scan; raise UserError where it is refused."""
    shown, bare = (recipe(dict(record)) for recipe in recipes)
    lesion, brain = (torch.as_tensor(shown[key]).as_subclass(torch.Tensor) > 0 for key in ("label", "brain"))
    image = MetaTensor(shown["image"].as_tensor().float(), affine=shown["image"].affine.double())
    found = register_brain(image, brain | lesion, lesion)
    filled = fill_lesions(image, lesion, found.to_mni).as_tensor()
    truth, seen = (one.as_tensor().float() for one in (bare["image"], image))
    white, gray = (float(truth[shown["tissues"].as_tensor() == one].median()) for one in (Tissue.WHITE, Tissue.CORTEX))
    ways = {"filled": filled, "mean": mean_filled(seen, lesion, brain), "left": seen}
    if picture is not None:
        level = int(lesion[0].sum((0, 1)).argmax())
        cuts = np.concatenate([one[0, :, :, level].T.flip(0).numpy() for one in (seen, filled, truth)], axis=1)
        Image.fromarray((cuts / white / 1.5 * 255).clip(0, 255).astype(np.uint8)).save(picture)
    is_white = {
        way: 100 * float((values[lesion] > (white + gray) / 2).float().mean())
        for way, values in (*ways.items(), ("truth", truth))
    }
    shares = {f"{way}_white": is_white[way] - is_white["truth"] for way in ways}
    errors = {way: 100 / white * float((values - truth)[lesion].square().mean().sqrt()) for way, values in ways.items()}
    biases = {f"{way}_bias": 100 / white * float((values - truth)[lesion].mean()) for way, values in ways.items()}
    return {"subject": record["subject"], "ml": float(lesion.sum()) * voxel_ml(image.affine), **errors, **biases, **shares}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("heads")
    parser.add_argument("masks")
    parser.add_argument("--side", default="held_out")
    parser.add_argument("--scans", type=int, default=16)
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--pictures", type=Path)
    arguments = parser.parse_args()
    options = {"heads": arguments.heads, "masks": arguments.masks, "side": arguments.side, "lesion_free": 0.0}
    config = configured("synthesis", "synthesis", **options, synthetic_scans=arguments.scans * 3, output_dir="unused")
    recipe = config.get_parsed_content("compose")
    recipes, rows, refused = (recipe, without_lesions(recipe)), list[dict[str, Any]](), 0
    for record in config.get_parsed_content("cohort"):
        picture = arguments.pictures and arguments.pictures / f"{record['subject']}.png"
        try:
            rows.append(measure(record, recipes, picture))
        except UserError as error:
            refused += 1
            print(record["subject"], error, flush=True)
            continue
        print({key: value if isinstance(value, str) else round(value, 1) for key, value in rows[-1].items()}, flush=True)
        if len(rows) == arguments.scans:
            break
    table = pd.DataFrame(rows)
    by_size = table.groupby(pd.cut(table["ml"], SIZES_ML), observed=True)
    print(by_size.agg({"subject": "count", "filled": "mean", "mean": "mean", "left": "mean"}).round(1).to_string())
    print(table.drop(columns="subject").agg(["median", "mean", "max"]).round(1).to_string(), f"\n{refused} refused")
    if arguments.csv:
        table.to_csv(arguments.csv, index=False)


if __name__ == "__main__":
    main()
