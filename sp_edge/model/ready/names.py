"""What the classes of an ImageNet classifier are called, in the order of its rows."""

from __future__ import annotations

from timm.data.imagenet_info import ImageNetInfo, infer_imagenet_subset


def imagenet_names(classes: int) -> tuple[str, ...]:
    """The first name of each class, such as 'coffee mug'; empty where no ImageNet has so many classes.

    Two classes may have one name, such as the two cranes.
    """
    subset = infer_imagenet_subset({"num_classes": classes})
    if subset is None:
        return ()
    info = ImageNetInfo(subset)
    described = (info.index_to_description(index, detailed=False) for index in range(classes))
    return tuple(names.partition(",")[0].strip() for names in described)
