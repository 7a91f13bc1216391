"""What may stand where in a detector, as data: sites, blocks, placements and spaces. Imports no torch."""

from search_spaces.placement import Block, Placement
from search_spaces.space import SearchSpace, Site, SpaceError, load, sample, shipped

__distribution__ = "yolo-attention-nas"
__all__ = ["Block", "Placement", "SearchSpace", "Site", "SpaceError", "load", "sample", "shipped"]
