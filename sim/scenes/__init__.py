"""What is photographed: scenes of a lab, photographs, annotated scenes, as folders of RAWs."""
