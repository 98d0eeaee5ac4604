"""The names of the classes, in the order of their labels."""

# ruff: noqa: SIM905  (a hundred quoted words on a line each read worse than one paragraph)

MNIST = SVHN = tuple("0123456789")

FASHION_MNIST = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)

CIFAR10 = tuple("airplane automobile bird cat deer dog frog horse ship truck".split())

CIFAR100 = tuple(
    """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
    camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile
    cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp
    lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom
    oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
    possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake
    spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor
    train trout tulip turtle wardrobe whale willow_tree wolf woman worm
    """.split()
)

MHIST = ("HP", "SSA")  # hyperplastic polyp, sessile serrated adenoma

# Subsets of ImageNet, by the place of each class among its thousand in the order of their WordNet
# ids, as the code of trajectory matching has them; labels are in this order.
IMAGENET_SUBSETS = {
    "imagenette": (0, 217, 482, 491, 497, 566, 569, 571, 574, 701),
    "imagewoof": (193, 182, 258, 162, 155, 167, 159, 273, 207, 229),
    "imagefruit": (953, 954, 949, 950, 951, 957, 952, 945, 943, 948),
    "imageyellow": (309, 986, 954, 951, 987, 779, 599, 291, 72, 11),
    "imagemeow": (281, 282, 283, 284, 285, 291, 292, 290, 289, 287),
    "imagesquawk": (84, 130, 88, 144, 145, 22, 96, 9, 100, 89),
}


def imagenet_subset(dataset: str) -> str:
    """The subset of ImageNet that a dataset's name ends with, as `folder:PATH#imagenette`; else
    empty."""
    _, mark, subset = dataset.rpartition("#")
    return subset if mark and subset in IMAGENET_SUBSETS else ""
