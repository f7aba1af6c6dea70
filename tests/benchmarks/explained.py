"""Why a goal is missed, where a profile says so: start of the job's name -> one sentence with numbers."""

_FIRST_MODEL = (
    "importing yaml and pydantic alone loads neither BaseModel nor importlib.metadata; with one model of one field it "
    "takes 173 ms instead of 78, and the rest of the command 77 (18 the standard library and the parser, 25 the models "
    "of a recipe, 34 reading and checking one)"
)
EXPLAINED = {
    "cphloc explain": _FIRST_MODEL,
    "cphloc diff": _FIRST_MODEL,
    "cphloc fill": _FIRST_MODEL,
    "cphloc check --syntax": _FIRST_MODEL,
    "affine + flip": "as of the affine transform alone, which takes half the time",
    "affine,": (
        "only TorchIO is within the goal; the warp takes 12 ms, 1 of them for the mask, in one pass over memory; "
        "on the same host the row had 4.65 on 2026-11-27"
    ),
    "IoU of 1,000": (
        "writing the million values takes a quarter, the arithmetic the rest, in an order on whose last bits published "
        "entries depend"
    ),
    "8 steps": "86 % of a step are convolutions and their gradients, which oneDNN computes in bfloat16",
    "RoIAlign of 100 boxes to 7 x 7, 2-D": (
        "the samples are grid_sample's, on whose last bits a published entry depends; it alone takes 3.6 ms of "
        "torchvision's 3.9"
    ),
    "84 x 84 x 84 volume": (
        "it is limited by memory: with 15 classes adding the windows takes 56 %, the stand-in for a network, which "
        "both pay, 25 %, copying 7 %; sums keep their order, on which published entries depend"
    ),
    "cphloc show": _FIRST_MODEL,
    "first prediction": "on top of torch, .20 s import modules, .09 read the recipe and build, .26 predict",
}
